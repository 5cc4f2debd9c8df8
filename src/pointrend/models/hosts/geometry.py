"""How the pixels of a host's coarse grid lie in the image.

Most networks upsample with half-pixel centres, as everything else here: pixel i of w has its centre at (i + 0.5) / w.
Some (segmentation-models-pytorch's FPN and DeepLabV3) align corners: the first and the last pixel of the grid lie on
the first and the last pixel of the image. Read as the other kind, points are up to half a cell off.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core import regular_grid, sample_points
from pointrend.core.points import Padding

Geometry = Literal["centers", "corners"]


def upsampled(coarse: Tensor, size: tuple[int, int], geometry: Geometry) -> Tensor:
    """Return logits (N, C, H, W) of the whole input, of `size` (H, W), as the host upsamples its own."""
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=geometry == "corners")


def points_on_grid(points: Tensor, grid: tuple[int, int], size: tuple[int, int], geometry: Geometry) -> Tensor:
    """Convert points of an input to those at which its coarse grid is read by half-pixel centres.

    Args:
        points: (N, P, 2), (x, y) in [0, 1]².
        grid: (h, w) of the coarse logits.
        size: (H, W) of the input.
        geometry: of the grid.
    """
    if geometry == "centers":
        return points
    # Pixel I of W lies at pixel I * (w - 1) / (W - 1) of w.
    wide = points.new_tensor((size[1], size[0]))
    cells = points.new_tensor((grid[1], grid[0]))
    pixel = points * wide - 0.5
    return (pixel * (cells - 1) / (wide - 1).clamp(min=1) + 0.5) / cells


def read_coarse(
    coarse: Tensor, points: Tensor, size: tuple[int, int], geometry: Geometry, *, padding: Padding = "zeros"
) -> Tensor:
    """Return coarse logits (N, P, C) at points (N, P, 2) of an input of `size` (H, W)."""
    grid = (coarse.shape[2], coarse.shape[3])
    return sample_points(coarse, points_on_grid(points, grid, size, geometry), padding=padding)


def start_grid(coarse: Tensor, size: tuple[int, int], geometry: Geometry) -> Tensor:
    """Return coarse logits (N, C, h, w) with half-pixel centres on a grid of the same size, to start rendering from."""
    if geometry == "centers":
        return coarse
    height, width = coarse.shape[2:]
    points = regular_grid((height, width), batch=len(coarse), device=coarse.device)
    values = read_coarse(coarse, points, size, geometry, padding="border")
    return values.transpose(1, 2).reshape(coarse.shape).to(torch.promote_types(coarse.dtype, torch.float32))
