"""Maps as rows: a pixel's channels lie side by side in memory, and reading a point costs four rows.

Shapes: P points, D channels, h w a map, R rows, M sums, K rows of a sum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core.points import Padding


class RowMap(NamedTuple):
    """A map (1, D, h, w) as rows."""

    rows: Tensor
    """(h * w, D), contiguous."""
    size: tuple[int, int]
    """(h, w)."""


def row_map(features: Tensor) -> RowMap:
    """Return a map (1, D, h, w) as rows, in float32 at least; nothing is copied where it is channels-last."""
    _, channels, height, width = features.shape
    rows = features[0].permute(1, 2, 0).reshape(height * width, channels)
    return RowMap(rows.to(torch.promote_types(rows.dtype, torch.float32)).contiguous(), (height, width))


def weighted_rows(data: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Return weighted sums (M, D) of rows of `data` (R, D) at `indices` (M, K), with `weights` (M, K).

    `embedding_bag` computes this weighted gather in one pass, without an (M, K, D) intermediate.
    """
    if len(indices) == 0:
        return data.new_zeros((0, data.shape[1]))
    sums: Tensor = F.embedding_bag(indices, data, mode="sum", per_sample_weights=weights.to(data.dtype))
    return sums


def bilinear_rows(size: tuple[int, int], points: Tensor, *, padding: Padding = "zeros") -> tuple[Tensor, Tensor]:
    """Return the four pixels that each point reads of a map of `size`, and their weights, as in `sample_points`.

    Args:
        size: (h, w).
        points: (P, 2), float32 or float64.
        padding: see `sample_points`.

    Returns:
        Row-major indices (P, 4), int64, and weights (P, 4).
    """
    height, width = size
    at = points * points.new_tensor((width, height)) - 0.5
    if padding == "border":
        at = torch.minimum(at.clamp(min=0), at.new_tensor((width - 1, height - 1)))
    corner = at.floor()
    fraction = at - corner
    near = corner.new_tensor((0, 1))
    columns, rows = corner[:, :1] + near, corner[:, 1:] + near
    across = torch.stack((1 - fraction[:, 0], fraction[:, 0]), dim=1) * ((columns >= 0) & (columns < width))
    down = torch.stack((1 - fraction[:, 1], fraction[:, 1]), dim=1) * ((rows >= 0) & (rows < height))
    # Where the weight is 0, any row may be read.
    inside_columns, inside_rows = columns.clamp(0, width - 1).long(), rows.clamp(0, height - 1).long()
    indices = inside_rows[:, :, None] * width + inside_columns[:, None, :]
    return indices.flatten(1), (down[:, :, None] * across[:, None, :]).flatten(1)


def read_rows(maps: RowMap, points: Tensor, *, padding: Padding = "zeros") -> Tensor:
    """Return what `sample_points` does, (P, D), at points (P, 2) of one image."""
    return weighted_rows(maps.rows, *bilinear_rows(maps.size, points, padding=padding))
