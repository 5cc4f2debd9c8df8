"""Windows of resized images, resampled without resizing the whole image.

Images are (3, H, W) uint8, masks (..., H, W). `scaled` is the size (H, W) of the whole resized image.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from pointrend.data.classes import IGNORE

Window = tuple[int, int, int, int]
"""Top, left, height and width in pixels of the resized image."""


def uniform(low: float, high: float) -> float:
    """Draw a number from torch's global generator."""
    return low + (high - low) * float(torch.rand(()))


def draw_window(scaled: tuple[int, int], crop: tuple[int, int]) -> Window:
    """Draw a window of the crop's size, or of the resized image's where that is smaller."""
    height, width = min(crop[0], scaled[0]), min(crop[1], scaled[1])
    top, left = (int(torch.randint(scaled[axis] - length + 1, ())) for axis, length in enumerate((height, width)))
    return top, left, height, width


def largest_ratio(labels: Tensor) -> float:
    """Return the ratio of the not ignored pixels (H, W) that the largest class covers; 1 if all are ignored."""
    counts = torch.bincount(labels.flatten(), minlength=IGNORE + 1)[:IGNORE]
    total = int(counts.sum())
    return int(counts.max()) / total if total else 1.0


def resample(image: Tensor, scaled: tuple[int, int], window: Window) -> Tensor:
    """Return the window (3, h, w) uint8 of an image that is resized to `scaled`, bilinearly with antialiasing."""
    rows = _source(window[0], window[2], image.shape[-2], scaled[0])
    columns = _source(window[1], window[3], image.shape[-1], scaled[1])
    part = image[:, rows[0] : rows[1], columns[0] : columns[1]].permute(1, 2, 0).contiguous()
    box = (columns[2], rows[2], columns[3], rows[3])
    resized = Image.fromarray(part.numpy()).resize((window[3], window[2]), Image.Resampling.BILINEAR, box=box)
    pixels: Tensor = F.pil_to_tensor(resized)
    return pixels


def interpolate(image: Tensor, scaled: tuple[int, int], window: Window) -> Tensor:
    """Return the window (3, h, w) uint8 of an image that is resized to `scaled`, bilinearly between four pixels.

    Pixels in between are skipped where the image becomes smaller, as OpenCV's bilinear resizing does.
    """
    height, width = image.shape[1:]
    top, bottom, down = _neighbors(window[0], window[2], height, scaled[0])
    left, right, across = _neighbors(window[1], window[3], width, scaled[1])
    first = int(left[0])
    # Rows of pixels are copied whole, which images in channels-last order, as they are read, do fastest.
    pixels = image.as_subclass(Tensor)[:, :, first : int(right[-1]) + 1].permute(1, 2, 0).numpy()
    one, other = (torch.from_numpy(pixels[index.numpy()]).float() for index in (top, bottom))
    rows = torch.lerp(one, other, down.view(-1, 1, 1))
    result = torch.lerp(rows[:, left - first], rows[:, right - first], across.view(1, -1, 1))
    return result.round_().to(torch.uint8).permute(2, 0, 1)


def nearest(mask: Tensor, scaled: tuple[int, int], window: Window) -> Tensor:
    """Return the window of a mask that is resized to `scaled` by nearest neighbour at pixel centres."""
    rows = _nearest_index(window[0], window[2], mask.shape[-2], scaled[0])
    columns = _nearest_index(window[1], window[3], mask.shape[-1], scaled[1])
    return mask.as_subclass(Tensor).index_select(-2, rows).index_select(-1, columns)


def rotated_window(
    part: Callable[[Window], Tensor],
    scaled: tuple[int, int],
    window: Window,
    angle: float,
    *,
    fill: int | tuple[int, int, int],
) -> Tensor:
    """Return the window of the resized image after it is rotated about the window's centre.

    Args:
        part: returns a window of the resized image, (3, h, w) uint8, or of its labels, (h, w) uint8.
        scaled, window: size of the resized image, and the window in it.
        angle: in degrees.
        fill: value outside of the image; a single number marks labels, which are not interpolated.
    """
    top, left, height, width = window
    cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    # Cut out a larger window that contains the rotated one; equal margins on both sides keep the centre.
    above = max(0, math.ceil((height * cos + width * sin - height) / 2))
    beside = max(0, math.ceil((height * sin + width * cos - width) / 2))
    large = (top - above, left - beside, height + 2 * above, width + 2 * beside)
    inner = _clip(large, scaled)
    labels = isinstance(fill, int)
    canvas = Image.new("L" if labels else "RGB", (large[3], large[2]), fill)
    source = part(inner) if labels else part(inner).permute(1, 2, 0)
    canvas.paste(Image.fromarray(source.contiguous().numpy()), (inner[1] - large[1], inner[0] - large[0]))
    kind = Image.Resampling.NEAREST if labels else Image.Resampling.BILINEAR
    rotated = canvas.rotate(angle, kind, fillcolor=fill).crop((beside, above, beside + width, above + height))
    tensor: Tensor = F.pil_to_tensor(rotated)
    return tensor[0] if labels else tensor


def _source(start: int, length: int, size: int, scaled: int) -> tuple[int, int, float, float]:
    """Return the range of source pixels needed for `length` resized pixels from `start`, and their extent within it."""
    begin, end = start * size / scaled, (start + length) * size / scaled
    # The triangle filter's radius is one source pixel, or one resized pixel when shrinking; one more to be safe.
    reach = max(1.0, size / scaled) + 1
    first, last = max(0, math.floor(begin - reach)), min(size, math.ceil(end + reach))
    return first, last, begin - first, end - first


def _neighbors(start: int, length: int, size: int, scaled: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the source pixels before and after `length` resized pixels from `start`, and the latter's weights."""
    centers = torch.arange(start, start + length, dtype=torch.float64) + 0.5
    position = (centers * (size / scaled) - 0.5).clamp(0, size - 1)
    low = position.floor().long()
    return low, (low + 1).clamp(max=size - 1), (position - low).float()


def _nearest_index(start: int, length: int, size: int, scaled: int) -> Tensor:
    # floor((i + 0.5) * size / scaled) in integer arithmetic
    return (2 * torch.arange(start, start + length) + 1) * size // (2 * scaled)


def _clip(window: Window, size: tuple[int, int]) -> Window:
    top, left = max(0, window[0]), max(0, window[1])
    bottom, right = min(size[0], window[0] + window[2]), min(size[1], window[1] + window[3])
    return top, left, bottom - top, right - left
