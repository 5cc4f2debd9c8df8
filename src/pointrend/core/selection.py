"""The choice of points: random but biased in training, the most uncertain ones at inference.

Shapes: N images, C classes, P points, H W grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pointrend.core.points import Padding, pixel_centers, regular_grid, sample_points
from pointrend.core.settings import Sampling
from pointrend.core.uncertainty import uncertainty


@torch.no_grad()
def training_points(
    logits: Tensor,
    sampling: Sampling,
    *,
    generator: torch.Generator | None = None,
    padding: Padding = "zeros",
    measure: Callable[..., Tensor] = uncertainty,
) -> Tensor:
    """Draw random points, biased towards uncertain regions (paper, section 3.1, "over generation" to "coverage").

    `k * P` points are drawn uniformly, the `beta * P` most uncertain of them are kept, and the rest is drawn
    uniformly anew, so that certain regions stay covered.

    Args:
        logits: (N, C, H, W), the coarse prediction.
        sampling: P, k and beta; or the regular grid.
        generator: the source of randomness, on the device of `logits`; None takes torch's global one.
        padding: as in `sample_points`. With "zeros" logits fade to 0 at the border, which pulls points there.
        measure: maps sampled logits (N, k * P, C) and `dim=2` to uncertainties (N, k * P).

    Returns:
        (N, P, 2), float32, the points chosen by uncertainty first.
    """
    batch = logits.shape[0]
    if sampling.regular:
        side = math.isqrt(sampling.num_points)
        return regular_grid((side, side), batch=batch, device=logits.device)

    def draw(count: int) -> Tensor:
        return torch.rand(batch, count, 2, generator=generator, device=logits.device)

    candidates = draw(int(sampling.oversample * sampling.num_points))
    num_important = int(sampling.importance * sampling.num_points)
    # Sampled logits, not a sampled map of uncertainties: see core/uncertainty.py.
    candidate_uncertainty = measure(sample_points(logits, candidates, padding=padding), dim=2)
    chosen = candidate_uncertainty.topk(num_important, dim=1).indices
    important = candidates.gather(1, chosen.unsqueeze(2).expand(-1, -1, 2))
    return torch.cat((important, draw(sampling.num_points - num_important)), dim=1)


@torch.no_grad()
def most_uncertain_points(uncertainty_map: Tensor, num_points: int) -> tuple[Tensor, Tensor]:
    """Return the pixels of a grid with the highest uncertainty (paper, section 3.1, inference).

    Args:
        uncertainty_map: (N, H, W), larger is less certain.
        num_points: for each image; a grid with fewer pixels is taken whole. Ties are broken arbitrarily.

    Returns:
        indices (N, P), int64, row-major, and points (N, P, 2), float32, the centres of these pixels.
    """
    if num_points < 1:
        raise ValueError(f"expected num_points >= 1, got {num_points}")
    height, width = uncertainty_map.shape[1:]
    indices = uncertainty_map.flatten(1).topk(min(num_points, height * width), dim=1).indices
    return indices, pixel_centers(indices, (height, width))
