"""Samples of a data set with their labels drawn on them, as one picture.

Shapes: H W pixels of an image, h w of its tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torchvision import tv_tensors

from pointrend.data import IGNORE, ClassInfo, InstanceMasks, Sample
from pointrend.data.images import image_size, read_photo
from pointrend.data.instance_masks import extent
from pointrend.viz import add_legend, draw_instances, draw_overlay

COLUMNS, ROWS = 4, 3
AREA = 120_000
"""Pixels of a tile; its shape is that of most images."""
_CAPTION = 18
_LEGEND = 20
_GAP = 8
_IGNORED = ClassInfo("(ignored)", (255, 255, 255))


def contact_sheet(
    samples: Sequence[tuple[str, Sample]],
    classes: Sequence[ClassInfo],
    *,
    task: str,
    progress: Callable[[int, int], None] | None = None,
) -> Image.Image:
    """Draw samples in rows of four, with their names below, and a legend of the classes that they show.

    Classes have their colours, and what is ignored is white; of instances every outline has a colour of its own.

    Args:
        samples: the name of the split, which may be empty, and the sample; at least one.
        classes: names and colours.
        task: "semantic" or "instance".
        progress: called with the number of samples drawn and their total.

    Raises:
        DatasetError, ImageError: a file cannot be read.
    """
    columns, rows = min(COLUMNS, len(samples)), -(-len(samples) // COLUMNS)
    tile_size = _tile_size([sample for _, sample in samples])
    cell = (tile_size[0] + _CAPTION + _GAP, tile_size[1] + _GAP)
    sheet = Image.new("RGB", (columns * cell[1] + _GAP, rows * cell[0] + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    shown: set[int] = set()
    for index, (split, sample) in enumerate(samples):
        tile, labels = (_semantic if task == "semantic" else _instances)(sample, classes, tile_size)
        shown |= labels
        row, column = divmod(index, COLUMNS)
        x, y = _GAP + column * cell[1], _GAP + row * cell[0]
        sheet.paste(tile, (x + (tile_size[1] - tile.width) // 2, y + (tile_size[0] - tile.height) // 2))
        name = f"{split}/{sample.image.name}" if split else sample.image.name
        draw.text((x, y + tile_size[0] + 2), _shortened(name, font, tile_size[1]), fill="black", font=font)
        if progress is not None:
            progress(index + 1, len(samples))
    if task != "semantic" and len(classes) == 1:  # outlines alone are drawn, and they have no colour of a class
        return sheet
    named = [*classes, _IGNORED]
    return add_legend(sheet, [(named[label], named[label].name) for label in sorted(shown)], text=_LEGEND)


def _tile_size(samples: Sequence[Sample]) -> tuple[int, int]:
    """Return the size (h, w) of all tiles: its ratio of sides is the median of the images' ratios."""
    sizes = [image_size(sample.image) for sample in samples]
    shape = float(np.clip(np.median([width / height for height, width in sizes]), 0.5, 2))
    return round((AREA / shape) ** 0.5), round((AREA * shape) ** 0.5)


def _semantic(sample: Sample, classes: Sequence[ClassInfo], tile: tuple[int, int]) -> tuple[Image.Image, set[int]]:
    """Return the tile of a label map, and the classes in it."""
    photo, pixels = _photo(sample, tile)
    labels = _nearest(sample.annotations.truth((pixels.shape[0], pixels.shape[1])), (photo.height, photo.width))
    labels = np.where(labels == IGNORE, len(classes), labels.astype(np.int64))
    drawn = draw_overlay(np.asarray(photo), labels, [*classes, _IGNORED], legend=False)
    return drawn, set(np.unique(labels).tolist())


def _instances(sample: Sample, classes: Sequence[ClassInfo], tile: tuple[int, int]) -> tuple[Image.Image, set[int]]:
    """Return the tile of instances without crowds, and the classes in it."""
    photo, pixels = _photo(sample, tile)
    masks: InstanceMasks = sample.annotations.read((pixels.shape[0], pixels.shape[1]))
    small = _nearest(masks.ids.numpy(), (photo.height, photo.width))
    masks = masks._replace(ids=tv_tensors.Mask(torch.from_numpy(small)))
    crops, labels = [], []
    for index in np.flatnonzero(~masks.crowd.numpy()).tolist():
        mask = masks.mask(index)
        left, top, right, bottom = window = extent(mask)
        crops.append((window, mask[top:bottom, left:right]))
        labels.append(int(masks.classes[index]))
    return draw_instances(np.asarray(photo), crops, labels, classes, legend=False), set(labels)


def _photo(sample: Sample, tile: tuple[int, int]) -> tuple[Image.Image, np.ndarray]:
    """Return the image at the size of a tile, and its own pixels (H, W, 3)."""
    pixels = read_photo(sample.image).pixels
    ratio = min(tile[0] / pixels.shape[0], tile[1] / pixels.shape[1])
    height, width = (max(1, round(side * ratio)) for side in pixels.shape[:2])
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS), pixels


def _nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize values (..., H, W) to (h, w) by taking the nearest pixel, without mixing values."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, values.shape[-2:], strict=True)
    )
    resized: np.ndarray = values[..., rows[:, None], columns]
    return resized


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return a text without its start if it is wider than `width` pixels."""
    start = next((i for i in range(len(text)) if font.getlength(text[i:]) <= width), len(text))
    return text[start:]
