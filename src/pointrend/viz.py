"""Drawing of labels and objects on images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as rle

from pointrend.data.classes import ClassInfo, generate_colors
from pointrend.data.samples import InstanceTruth

DARK = 64
"""Images of which nearly all values are below it are stretched in overlays."""
LegendEntry = tuple[ClassInfo, str]
"""A class and the text beside its colour."""


def draw_overlay(
    image: np.ndarray, labels: np.ndarray, classes: Sequence[ClassInfo], *, alpha: float = 0.5, legend: bool = True
) -> Image.Image:
    """Draw classes over an image in their colours with outlines, and a legend of the classes that occur.

    The image is not scaled: it is the upper left (H, W) of the result. The legend is below a landscape and at the right
    of a portrait. The background is not coloured.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) class indices; pixels with other values, such as 255, are not coloured.
        classes: names and colours.
        alpha: opacity of the colours, 0 to 1. Outlines, inside of each class, are opaque.
        legend: False leaves it out.
    """
    if image.shape != (*labels.shape, 3):
        raise ValueError(f"image must be (H, W, 3) for labels (H, W), got {image.shape} and {labels.shape}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    counts = np.bincount(labels.ravel(), minlength=len(classes))
    colors = np.zeros((len(counts), 3), np.uint8)
    colors[: len(classes)] = [c.color for c in classes]
    painted = np.zeros(len(counts), bool)
    painted[: len(classes)] = [not is_background(i, c) for i, c in enumerate(classes)]

    photo = Image.fromarray(brightened(image))
    colored = Image.fromarray(colors[labels])
    foreground = painted[labels]
    outline = foreground & _near_other_labels(labels, outline_width(labels.shape))
    overlay = Image.composite(Image.blend(photo, colored, alpha), photo, _mask(foreground))
    overlay = Image.composite(colored, overlay, _mask(outline))

    if not legend:
        return overlay
    order = [i for i in np.argsort(-counts, kind="stable") if counts[i] and i < len(classes)]
    entries = [(classes[i], f"{classes[i].name}  {_percent(counts[i] / labels.size)}") for i in order]
    return add_legend(overlay, entries)


def draw_outline(image: np.ndarray, labels: np.ndarray, given: np.ndarray) -> Image.Image:
    """Draw the outlines of two masks or label maps (H, W) on an image (H, W, 3) uint8: the given one in grey, the
    refined one in red over it."""
    drawn = np.array(brightened(image))
    width = outline_width(labels.shape)
    for each, color in ((given, (150, 150, 150)), (labels, (255, 40, 40))):
        drawn[_near_other_labels(each, width)] = color
    return Image.fromarray(drawn)


def draw_instances(
    image: np.ndarray,
    crops: Sequence[tuple[tuple[int, int, int, int], np.ndarray]],
    class_ids: Sequence[int],
    classes: Sequence[ClassInfo],
    *,
    alpha: float = 0.35,
    legend: bool = True,
) -> Image.Image:
    """Draw an outline in a different colour around every object of an image.

    If there are several classes, objects are also tinted by class, and a legend has their numbers. The image is not
    scaled: it is the upper left (H, W) of the result.

    Args:
        image: (H, W, 3) uint8 RGB.
        crops: window (left, top, right, bottom) and mask within it of each object, best first.
        class_ids: class index of each object.
        classes: names and colours.
        alpha: opacity of the tint, 0 to 1.
        legend: False leaves it out.
    """
    pixels = brightened(image).copy()
    several = len(classes) > 1
    width = outline_width(image.shape[:2])
    palette = np.array(generate_colors(24), np.uint8)
    for index in reversed(range(len(crops))):
        (left, top, right, bottom), inside = crops[index]
        if not inside.any():
            continue
        color = palette[index % len(palette)]
        part = pixels[top:bottom, left:right]
        if several:
            tint = np.array(classes[class_ids[index]].color)
            part[inside] = ((1 - alpha) * part[inside] + alpha * tint).astype(np.uint8)
        # Beyond the crop is outside of the object.
        near_outside = _near_other_labels(np.pad(inside, 1).astype(np.uint8), width)[1:-1, 1:-1]
        part[inside & near_outside] = color
    result = Image.fromarray(pixels)
    if not several or not legend:
        return result
    counts = np.bincount(np.asarray(class_ids, np.int64), minlength=len(classes))
    order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
    return add_legend(result, [(classes[i], f"{classes[i].name}  {counts[i]}") for i in order])


def draw_truth(image: np.ndarray, truth: np.ndarray | InstanceTruth, classes: Sequence[ClassInfo]) -> Image.Image:
    """Draw annotations on an image (H, W, 3) as results are drawn: label maps (H, W), or objects without crowds."""
    if isinstance(truth, np.ndarray):
        return draw_overlay(image, truth, classes)
    whole = (0, 0, image.shape[1], image.shape[0])
    shown = [index for index, crowd in enumerate(truth.crowd) if not crowd]
    masks = [(whole, rle.decode(truth.masks[index]).astype(bool)) for index in shown]
    return draw_instances(image, masks, [int(truth.classes[index]) for index in shown], classes)


def brightened(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) uint8 with its values stretched if it is so dark that little can be seen."""
    sample = image[:: max(1, image.shape[0] // 500), :: max(1, image.shape[1] // 500)]
    white = float(np.percentile(sample, 99.5))
    if not 0 < white < DARK:
        return image
    table = (np.arange(256) * (220 / white)).clip(0, 255).astype(np.uint8)
    stretched: np.ndarray = table[image]
    return stretched


def is_background(index: int, info: ClassInfo) -> bool:
    """Return whether a class is the background: by its name, or because it is the first class and black."""
    return info.name.lower() == "background" or (index == 0 and info.color == (0, 0, 0))


def outline_width(size: tuple[int, ...]) -> int:
    """Return the outline width in pixels for an image of `size` (H, W): 1 up to about 2 megapixels, 3 for 12."""
    return max(1, round(math.hypot(*size) / 1800))


def add_legend(
    image: Image.Image, entries: Sequence[LegendEntry], *, text: int | None = None, below: bool | None = None
) -> Image.Image:
    """Add a legend to an image: below, or at the right.

    Args:
        image: stays at the upper left.
        entries: classes, and what stands beside their colours; none gives the image back.
        text: the height of letters in pixels; None: readable when the whole image fits the screen.
        below: None: of a landscape, not of a portrait.
    """
    if not entries:
        return image
    text = text or max(13, round(math.sqrt(image.width * image.height) / 38))
    font = ImageFont.load_default(size=text)
    widths = [math.ceil(font.getlength(label)) for _, label in entries]
    gap, swatch, line = math.ceil(text * 0.6), text, math.ceil(text * 1.5)
    cell = gap + swatch + gap // 2 + max(widths) + gap

    below = image.width >= image.height if below is None else below
    if below:
        columns = max(1, min(len(entries), image.width // cell))
        rows = math.ceil(len(entries) / columns)
        size = (max(image.width, columns * cell), image.height + rows * line + gap)
        left, top = 0, image.height + gap // 2
    else:
        rows = max(1, min(len(entries), (image.height - gap) // line))
        columns = math.ceil(len(entries) / rows)
        size = (image.width + columns * cell, max(image.height, rows * line + gap))
        left, top = image.width, gap // 2

    result = Image.new("RGB", size, "white")
    result.paste(image, (0, 0))
    draw = ImageDraw.Draw(result)
    for index, (info, label) in enumerate(entries):
        row, column = divmod(index, columns) if below else (index % rows, index // rows)
        x, y = left + column * cell + gap, top + row * line + (line - swatch) // 2
        draw.rectangle((x, y, x + swatch - 1, y + swatch - 1), fill=info.color, outline="black")
        draw.text((x + swatch + gap // 2, y + swatch / 2), label, fill="black", font=font, anchor="lm")
    return result


def _near_other_labels(labels: np.ndarray, width: int) -> np.ndarray:
    """Return (H, W) bool: pixels with another label at most `width` steps (up, down, left, right) away."""
    near = np.zeros(labels.shape, bool)
    _mark_pairs(near, labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1])
    for _ in range(width - 1):
        _mark_pairs(near, near[1:] | near[:-1], near[:, 1:] | near[:, :-1])
    return near


def _mark_pairs(target: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> None:
    target[1:] |= vertical
    target[:-1] |= vertical
    target[:, 1:] |= horizontal
    target[:, :-1] |= horizontal


def _mask(where: np.ndarray) -> Image.Image:
    return Image.fromarray(where.astype(np.uint8) * np.uint8(255))


def _percent(ratio: float) -> str:
    return "< 0.1 %" if ratio < 0.001 else f"{100 * ratio:.1f} %"
