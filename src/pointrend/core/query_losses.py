"""Losses and matching costs of networks that predict masks by queries, at points instead of on whole masks.

Training of this kind is Mask2Former's (Cheng et al. 2022, arXiv 2112.01527, section 3.3): queries are matched to the
masks of the image by costs at random points, the same for all, and the matched pairs are trained at points that
PointRend's rule chooses for each mask anew. The assignment itself is `scipy.optimize.linear_sum_assignment`.

Shapes: Q queries, M masks of the image, R matched pairs, P points, h w the grid of logits, H W that of masks.

Logits and masks may be of any two sizes, but show the same: where the network's input was padded, masks are too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core.losses import at_least_one, mask_point_loss, paired
from pointrend.core.points import Padding, sample_labels, sample_masks, sample_points
from pointrend.core.selection import training_points
from pointrend.core.settings import QUERY_SAMPLING, Sampling

TOLERANCE = 1e-3
"""How far outside of [0, 1] rounding may take an interpolated target."""


class QueryLosses(NamedTuple):
    """Two losses of masks: scalars of matched pairs, or (Q, M) of every query with every mask."""

    cross_entropy: Tensor
    dice: Tensor


def mask_targets(masks: Tensor, points: Tensor, *, soft: bool = True, padding: Padding = "zeros") -> Tensor:
    """Read what masks want to be at points.

    Args:
        masks: (R, H, W), bool or numbers in [0, 1] of any type. Bool ones are read as they are; others are copied to
            float32. `sample_masks` reads maps of ids without making masks.
        points: (R, P, 2), float32 or float64.
        soft: interpolate bilinearly, as the published trainings do, which makes targets between 0 and 1 at
            boundaries; or take the value of the pixel that the point lies in.
        padding: as in `sample_points`: with "zeros" soft targets fade out in the half pixel next to the border.

    Returns:
        (R, P), in [0, 1], float32 or float64.

    Raises:
        ValueError: the shapes are not as above, or a mask has other values.
    """
    if masks.ndim != 3:
        raise ValueError(f"masks must be (R, H, W), got {tuple(masks.shape)}")
    if not soft:
        targets = sample_labels(masks, points)
    elif masks.dtype == torch.bool and padding == "zeros":
        targets = sample_masks(masks, masks.new_ones(len(masks)), points)
    else:
        targets = sample_points(masks.unsqueeze(1), points, padding=padding).squeeze(2)
    if not targets.is_floating_point() or targets.element_size() < 4:
        targets = targets.float()
    if targets.numel():
        low, high = (float(extreme) for extreme in targets.aminmax())
        # Also an error for NaN.
        if not -TOLERANCE <= low <= high <= 1 + TOLERANCE:
            raise ValueError(f"masks must be bool or in [0, 1], got {low:g} to {high:g} at points")
    return targets.clamp(0, 1)


def mask_dice_loss(point_logits: Tensor, targets: Tensor, *, num_masks: float | Tensor | None = None) -> Tensor:
    """Return the mean dice loss of masks, each from its points; 0 for no masks.

    The loss of a mask with probabilities p and targets t is `1 - (2 * sum(p * t) + 1) / (sum(p) + sum(t) + 1)`.

    Args:
        point_logits: (R, P).
        targets: (R, P), in [0, 1], soft or hard.
        num_masks: what the sum over masks is divided by, see `mask_point_loss`.

    Returns:
        A scalar, float32 or float64, computed at that precision also under autocast.

    Raises:
        ValueError: the shapes are not as above.
    """
    logits, targets = paired(point_logits, targets)
    probabilities = logits.sigmoid()
    both = (probabilities * targets).sum(1)
    each = 1 - (2 * both + 1) / (probabilities.sum(1) + targets.sum(1) + 1)
    return each.sum() / at_least_one(len(logits) if num_masks is None else num_masks)


def pairwise_mask_point_loss(point_logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean binary cross entropy of every query with every mask, at points that all share.

    It is computed by products of matrices, without a value for each query, mask and point.

    Args:
        point_logits: (Q, P).
        targets: (M, P), in [0, 1], soft or hard.

    Returns:
        (Q, M), float32 or float64, computed at that precision also under autocast.

    Raises:
        ValueError: the shapes are not as above.
    """
    logits, targets = _shared(point_logits, targets)
    with torch.autocast(logits.device.type, enabled=False):
        # Both terms are positive. Their shorter form, sum(softplus(x)) - x @ t, loses the small losses of good pairs.
        inside = F.softplus(-logits) @ targets.T
        outside = F.softplus(logits) @ (1 - targets).T
        return (inside + outside) / max(1, logits.shape[1])


def pairwise_mask_dice_loss(point_logits: Tensor, targets: Tensor) -> Tensor:
    """Return the dice loss, see `mask_dice_loss`, of every query with every mask, at points that all share.

    Shapes, result and errors are those of `pairwise_mask_point_loss`.
    """
    logits, targets = _shared(point_logits, targets)
    with torch.autocast(logits.device.type, enabled=False):
        probabilities = logits.sigmoid()
        both = probabilities @ targets.T
        return 1 - (2 * both + 1) / (probabilities.sum(1)[:, None] + targets.sum(1) + 1)


def matched_mask_losses(
    mask_logits: Tensor,
    masks: Tensor,
    *,
    sampling: Sampling = QUERY_SAMPLING,
    num_masks: float | Tensor | None = None,
    soft: bool = True,
    padding: Padding = "zeros",
    generator: torch.Generator | None = None,
) -> QueryLosses:
    """Return the losses of matched masks at points where their logits are uncertain (Mask2Former, section 3.3).

    Args:
        mask_logits: (R, h, w), of the queries that were matched.
        masks: (R, H, W), what each wants to be, see `mask_targets`.
        sampling: the points of each mask.
        num_masks: what the sums over masks are divided by, see `mask_point_loss`.
        soft: how masks are read, see `mask_targets`.
        padding: of logits and soft targets, see `sample_points`.
        generator: the source of randomness, on the device of the logits; None takes torch's global one.

    Returns:
        Scalars. Mask2Former weights both by 5.

    Raises:
        ValueError: the shapes are not as above, or a mask has values outside of [0, 1].
    """
    if mask_logits.ndim != 3 or masks.ndim != 3 or len(mask_logits) != len(masks):
        raise ValueError(
            "mask_logits must be (R, h, w) and masks (R, H, W), "
            f"got {tuple(mask_logits.shape)} and {tuple(masks.shape)}"
        )
    maps = mask_logits.unsqueeze(1)
    points = training_points(maps, sampling, generator=generator, padding=padding)
    targets = mask_targets(masks, points, soft=soft, padding=padding)
    logits = sample_points(maps, points, padding=padding).squeeze(2)
    return QueryLosses(
        mask_point_loss(logits, targets, num_masks=num_masks), mask_dice_loss(logits, targets, num_masks=num_masks)
    )


@torch.no_grad()
def matching_costs(
    mask_logits: Tensor,
    masks: Tensor,
    *,
    num_points: int = QUERY_SAMPLING.num_points,
    soft: bool = True,
    padding: Padding = "zeros",
    generator: torch.Generator | None = None,
) -> QueryLosses:
    """Return what it costs to match each query of an image with each of its masks (Mask2Former, section 3.3).

    Args:
        mask_logits: (Q, h, w), of all queries of one image.
        masks: (M, H, W), of the same image, see `mask_targets`.
        num_points: drawn uniformly, the same for all queries and masks.
        soft: how masks are read, see `mask_targets`.
        padding: of logits and soft targets, see `sample_points`.
        generator: the source of randomness, on the device of the logits; None takes torch's global one.

    Returns:
        Two matrices (Q, M), without gradients. Mask2Former weights both by 5, and adds -2 times the probability of the
        mask's class.

    Raises:
        ValueError: the shapes are not as above, or a mask has values outside of [0, 1].
    """
    if mask_logits.ndim != 3 or masks.ndim != 3:
        raise ValueError(
            "mask_logits must be (Q, h, w) and masks (M, H, W), "
            f"got {tuple(mask_logits.shape)} and {tuple(masks.shape)}"
        )
    points = torch.rand(1, num_points, 2, generator=generator, device=mask_logits.device)
    logits = sample_points(mask_logits.unsqueeze(0), points, padding=padding)[0].T
    targets = mask_targets(masks, points.expand(len(masks), -1, -1), soft=soft, padding=padding)
    return QueryLosses(pairwise_mask_point_loss(logits, targets), pairwise_mask_dice_loss(logits, targets))


def _shared(point_logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (Q, P) and targets (M, P) in one type: float32 or float64."""
    if point_logits.ndim != 2 or targets.ndim != 2 or point_logits.shape[1] != targets.shape[1]:
        raise ValueError(
            "expected point_logits (Q, P) and targets (M, P) at the same points, "
            f"got {tuple(point_logits.shape)} and {tuple(targets.shape)}"
        )
    logits = point_logits.to(torch.promote_types(point_logits.dtype, torch.float32))
    return logits, targets.to(logits)
