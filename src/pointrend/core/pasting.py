"""Paste a mask in its box into the image.

Shapes: M M the mask's grid, H W the image, h w a window of it.

A mask's values stand at the centres of M x M cells that tile its box. Between them they are interpolated bilinearly,
and outside of the box they fall to 0 within half a cell: both are products of weights for rows and for columns.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Paste = Literal["bilinear", "area"]
"""How a pixel reads a mask: at its centre, or as the mean over its square."""
Window = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; right and bottom are outside."""

MAX_EXTENT = 1e6
"""The largest side of a box, in pixels, that is pasted; larger ones are wrong predictions, not objects."""


def paste_window(box: Tensor, size: tuple[int, int], side: int) -> Window:
    """Return the window of an image that a mask of `side` x `side` cells can touch.

    Args:
        box: (4,), xyxy in pixels, anywhere.
        size: (H, W) of the image.
        side: M.

    Returns:
        The window, within the image. It is (0, 0, 0, 0) if the box lies outside of the image, has no area, is over
        `MAX_EXTENT` or is not finite.
    """
    left, top, right, bottom = box.tolist()
    height, width = size
    # Also False for NaN.
    if not (0 < right - left < MAX_EXTENT and 0 < bottom - top < MAX_EXTENT):
        return 0, 0, 0, 0

    def span(low: float, high: float, limit: int) -> tuple[int, int]:
        reach = (high - low) / (2 * side)  # the mask fades to 0 within half a cell around the box
        first = min(max(0.0, low - reach - 0.5), float(limit))
        last = min(max(0.0, high + reach + 0.5), float(limit))
        return math.floor(first), math.ceil(last)

    (x0, x1), (y0, y1) = span(left, right, width), span(top, bottom, height)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else (0, 0, 0, 0)


def paste_mask(
    probabilities: Tensor, box: Tensor, size: tuple[int, int], *, mode: Paste = "bilinear"
) -> tuple[Window, Tensor]:
    """Return the probabilities of an image's pixels in the window that the mask can touch.

    Pixels of 0.5 and above are the mask.

    Args:
        probabilities: (M, M), any floating type, of the cells of the box.
        box: (4,), xyxy in pixels.
        size: (H, W) of the image.
        mode: "bilinear" reads the mask at each pixel's centre, as detectron2 does: of a mask that is finer than the
            pixels most cells are never read. "area" takes the mean over each pixel's square, exactly.

    Returns:
        The window, see `paste_window`, and (h, w) float32 (float64 for float64) of its pixels.

    Raises:
        ValueError: the shapes, or the mode, are not as above.
    """
    if probabilities.ndim != 2 or not 0 < probabilities.shape[0] == probabilities.shape[1] or box.shape != (4,):
        raise ValueError(
            f"expected probabilities (M, M) and box (4,), got {tuple(probabilities.shape)} and {tuple(box.shape)}"
        )
    if mode not in get_args(Paste):
        raise ValueError(f"mode must be one of {', '.join(get_args(Paste))}, got {mode!r}")
    side = probabilities.shape[0]
    window = x0, y0, x1, y1 = paste_window(box, size, side)
    left, top, right, bottom = box.tolist()
    values = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    rows = _weights(y0, y1, top, bottom, side, mode).to(values)
    columns = _weights(x0, x1, left, right, side, mode).to(values)
    with torch.autocast(values.device.type, enabled=False):
        return window, rows @ values @ columns.T


def _weights(first: int, last: int, low: float, high: float, side: int, mode: Paste) -> Tensor:
    """Return (pixels, side) float64, the weight of each cell for the pixels `first` to `last` along one axis."""
    pixels = torch.arange(first, last, dtype=torch.float64)
    if len(pixels) == 0:
        return pixels.new_zeros((0, side))
    cell = (high - low) / side
    centers = torch.arange(side, dtype=torch.float64) + 0.5
    if mode == "bilinear":
        return (1 - ((pixels[:, None] + 0.5 - low) / cell - centers).abs()).clamp(min=0)
    begin, end = ((pixels[:, None] + offset - low) / cell - centers for offset in (0, 1))
    # The integral over cells; a pixel is 1 / cell of them wide.
    return (_hat_integral(end) - _hat_integral(begin)) * cell


def _hat_integral(x: Tensor) -> Tensor:
    """Return the integral of max(0, 1 - |t|) from minus infinity to x."""
    x = x.clamp(-1, 1)
    return torch.where(x < 0, (1 + x) ** 2 / 2, 1 - (1 - x) ** 2 / 2)
