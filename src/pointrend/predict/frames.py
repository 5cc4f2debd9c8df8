"""Cut maps over a padded input to what lies on the image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pointrend.core import Resize
from pointrend.inputs import Frame


def cropped_cells(coarse: Tensor, frame: Frame) -> Tensor:
    """Return the coarse pixels (1, C, ., .), at least one, that lie wholly on the image and not on its padding."""
    height, width = (
        max(1, valid * cells // padded)
        for cells, valid, padded in zip(coarse.shape[2:], frame.valid, frame.padded, strict=True)
    )
    return coarse[:, :, :height, :width]


def last_resizes(frame: Frame, grid: tuple[int, int]) -> tuple[Resize, ...]:
    """Return the resizes from a grid over the padded input to the image, which also cut the padding off."""
    if frame.valid == frame.padded:
        return (Resize(frame.size),)
    if any(cells % padded for cells, padded in zip(grid, frame.padded, strict=True)):
        # The padding may begin inside of a grid's pixel, but never inside of the input's.
        return (Resize(frame.padded), Resize(frame.size, crop=frame.valid))
    height, width = (v * cells // p for cells, v, p in zip(grid, frame.valid, frame.padded, strict=True))
    return (Resize(frame.size, crop=(height, width)),)


def cropped(maps: Tensor, frame: Frame) -> Tensor:
    """Return the part of maps (1, C, ., .) over the padded input that belongs to the image."""
    *before, last = last_resizes(frame, (maps.shape[2], maps.shape[3]))
    for resize in before:
        maps = F.interpolate(maps, size=resize.size, mode="bilinear", align_corners=False)
    height, width = last.crop or maps.shape[2:]
    return maps[:, :, :height, :width]
