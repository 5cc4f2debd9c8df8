"""Drawing labels on photographs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pointrend.data.classes import ClassInfo, generate_colors

LegendEntry = tuple[ClassInfo, str]
"""A class and what is written beside its colour."""


def draw_overlay(
    image: np.ndarray, labels: np.ndarray, classes: Sequence[ClassInfo], *, alpha: float = 0.5
) -> Image.Image:
    """The photograph with the classes in their colours, crisp outlines, and a legend of the classes that occur.

    The picture is not scaled: its pixels are the upper left (H, W) of the result. The legend stands below a
    landscape and at the right of a portrait. The background stays as it was.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W), class indices; what is no index of `classes` (255, say) is left as it was.
        classes: names and colours.
        alpha: how much of the colour is mixed in, 0 to 1. Outlines, inside of each class, are drawn unmixed.
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

    photo = Image.fromarray(image)
    colored = Image.fromarray(colors[labels])
    foreground = painted[labels]
    outline = foreground & _near_other_labels(labels, outline_width(labels.shape))
    picture = Image.composite(Image.blend(photo, colored, alpha), photo, _mask(foreground))
    picture = Image.composite(colored, picture, _mask(outline))

    order = [i for i in np.argsort(-counts, kind="stable") if counts[i] and i < len(classes)]
    entries = [(classes[i], f"{classes[i].name}  {_percent(counts[i] / labels.size)}") for i in order]
    return add_legend(picture, entries)


def draw_instances(
    image: np.ndarray,
    crops: Sequence[tuple[tuple[int, int, int, int], np.ndarray]],
    class_ids: Sequence[int],
    classes: Sequence[ClassInfo],
    *,
    alpha: float = 0.35,
) -> Image.Image:
    """The photograph with every object outlined in a colour of its own, and of several classes tinted by its class.

    The picture is not scaled: its pixels are the upper left (H, W) of the result. Of one class, as nuclei are, objects
    are only outlined, so that the photograph stays to be judged; of several, a legend counts them.

    Args:
        image: (H, W, 3) uint8 RGB.
        crops: of each object, best first, its window (left, top, right, bottom) and the mask in it.
        class_ids: of each object.
        classes: names and colours.
        alpha: how much of the colour is mixed in where there are several classes.
    """
    picture = image.copy()
    several = len(classes) > 1
    width = outline_width(image.shape[:2])
    # Neighbours get colours that are far apart: the generated ones are, in their order.
    palette = np.array(generate_colors(24), np.uint8)
    for index in reversed(range(len(crops))):
        (left, top, right, bottom), inside = crops[index]
        if not inside.any():
            continue
        color = palette[index % len(palette)]
        part = picture[top:bottom, left:right]
        if several:
            tint = np.array(classes[class_ids[index]].color)
            part[inside] = ((1 - alpha) * part[inside] + alpha * tint).astype(np.uint8)
        part[inside & _near_outside(inside, width)] = color
    result = Image.fromarray(picture)
    if not several:
        return result
    counts = np.bincount(np.asarray(class_ids, np.int64), minlength=len(classes))
    order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
    return add_legend(result, [(classes[i], f"{classes[i].name}  {counts[i]}") for i in order])


def _near_outside(inside: np.ndarray, width: int) -> np.ndarray:
    """(h, w) bool: pixels at most `width` steps from one that is not inside; beyond the crop nothing is."""
    padded = np.pad(inside, 1)
    return _near_other_labels(padded.astype(np.uint8), width)[1:-1, 1:-1]


def is_background(index: int, info: ClassInfo) -> bool:
    """Whether a class is what is left when all things are named: called so, or first and black."""
    return info.name.lower() == "background" or (index == 0 and info.color == (0, 0, 0))


def outline_width(size: tuple[int, ...]) -> int:
    """The width in pixels of an outline in a picture of `size` (H, W): 1 up to about 2 megapixels, 3 for 12."""
    return max(1, round(math.hypot(*size) / 1800))


def add_legend(picture: Image.Image, entries: Sequence[LegendEntry]) -> Image.Image:
    """The picture with a legend below it (landscape) or at its right (portrait), in a readable size."""
    if not entries:
        return picture
    # Relative to the picture, so that it can be read when the whole is on the screen; never under 13 pixels.
    text = max(13, round(math.sqrt(picture.width * picture.height) / 38))
    font = ImageFont.load_default(size=text)
    widths = [math.ceil(font.getlength(label)) for _, label in entries]
    gap, swatch, line = math.ceil(text * 0.6), text, math.ceil(text * 1.5)
    cell = gap + swatch + gap // 2 + max(widths) + gap

    below = picture.width >= picture.height
    if below:
        columns = max(1, min(len(entries), picture.width // cell))
        rows = math.ceil(len(entries) / columns)
        size = (max(picture.width, columns * cell), picture.height + rows * line + gap)
        left, top = 0, picture.height + gap // 2
    else:
        rows = max(1, min(len(entries), (picture.height - gap) // line))
        columns = math.ceil(len(entries) / rows)
        size = (picture.width + columns * cell, max(picture.height, rows * line + gap))
        left, top = picture.width, gap // 2

    result = Image.new("RGB", size, "white")
    result.paste(picture, (0, 0))
    draw = ImageDraw.Draw(result)
    for index, (info, label) in enumerate(entries):
        row, column = divmod(index, columns) if below else (index % rows, index // rows)
        x, y = left + column * cell + gap, top + row * line + (line - swatch) // 2
        draw.rectangle((x, y, x + swatch - 1, y + swatch - 1), fill=info.color, outline="black")
        draw.text((x + swatch + gap // 2, y + swatch / 2), label, fill="black", font=font, anchor="lm")
    return result


def _near_other_labels(labels: np.ndarray, width: int) -> np.ndarray:
    """(H, W) bool: pixels with another label at most `width` steps (up, down, left, right) away."""
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


def _percent(share: float) -> str:
    return "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
