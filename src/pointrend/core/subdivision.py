"""Adaptive subdivision as the paper states it (section 3.1, figure 4): the reference for the sparse renderer.

Shapes: N images, C classes, P points, H W grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from pointrend.core.selection import most_uncertain_points
from pointrend.core.settings import Subdivision
from pointrend.core.uncertainty import check_finite, uncertainty

PointPredictor = Callable[[Tensor], Tensor]
"""Maps points (N, P, 2) to their logits (N, P, C)."""


@dataclass(frozen=True)
class SubdivisionStep:
    """One step of subdivision, on a grid H x W twice as large as that of the step before."""

    logits: Tensor
    """(N, C, H, W), with the new predictions written in."""
    uncertainty: Tensor
    """(N, H, W), of the upsampled logits, before the new predictions."""
    points: Tensor
    """(N, P, 2), where new predictions were made."""


def subdivision_steps(
    logits: Tensor,
    predict: PointPredictor,
    subdivision: Subdivision,
    *,
    measure: Callable[..., Tensor] = uncertainty,
) -> Iterator[SubdivisionStep]:
    """Double the grid, and predict anew where the upsampled logits are least certain.

    Args:
        logits: (N, C, H, W), the start: coarse logits for semantics, a regular grid's for instances.
        predict: gives logits at points.
        subdivision: the points of a step and the number of steps; with H * W points of the finest grid, every pixel
            is predicted. Its `start` is not used here.
        measure: maps logits (N, C, H, W) and `dim=1` to uncertainties (N, H, W).

    Yields:
        One `SubdivisionStep` a doubling, from coarse to fine.

    Raises:
        ValueError: logits are not finite.
    """
    # Half precision, which autocast gives, would turn near ties into ties.
    check_finite(logits, "coarse logits")
    logits = logits if logits.is_floating_point() and logits.element_size() >= 4 else logits.float()
    for _ in range(subdivision.steps):
        logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        uncertainty_map = measure(logits, dim=1)
        indices, points = most_uncertain_points(uncertainty_map, subdivision.num_points)
        logits = write_points(logits, indices, check_finite(predict(points), "logits at points"))
        yield SubdivisionStep(logits, uncertainty_map, points)


def subdivide(
    logits: Tensor,
    predict: PointPredictor,
    subdivision: Subdivision,
    *,
    measure: Callable[..., Tensor] = uncertainty,
) -> Tensor:
    """Return the logits after the last of `subdivision_steps`: (N, C, H * 2^steps, W * 2^steps)."""
    for step in subdivision_steps(logits, predict, subdivision, measure=measure):
        logits = step.logits
    return logits


def write_points(logits: Tensor, indices: Tensor, point_logits: Tensor) -> Tensor:
    """Return a copy of `logits` (N, C, H, W) with `point_logits` (N, P, C) at the row-major `indices` (N, P)."""
    channels = logits.shape[1]
    # Under autocast the point head answers in half precision, and scatter refuses mixed types.
    values = point_logits.to(logits.dtype).transpose(1, 2)
    flat = logits.flatten(2).scatter(2, indices.unsqueeze(1).expand(-1, channels, -1), values)
    return flat.view_as(logits)
