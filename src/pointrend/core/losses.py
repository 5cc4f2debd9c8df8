"""Losses and accuracy at points, usable without the rest of the package.

Shapes: N images, C classes, P points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core.labels import labels_of

Average = Literal["labelled", "all"]
"""What a loss is averaged over: labelled pixels or points, or all, where ignored ones count with a loss of 0."""
Count = Callable[[Tensor], Tensor]
"""Replaces the number (or weight) of what is labelled, which losses are divided by. In a training of several processes
it is the mean of theirs: the averages of their gradients are then those of the whole batch."""


def own_count(count: Tensor) -> Tensor:
    """Return the count: that of a process on its own."""
    return count


def semantic_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = 255,
    class_weights: Tensor | None = None,
    average: Average = "labelled",
    count: Count = own_count,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Return the mean cross entropy over pixels or points; 0 where all are ignored.

    Args:
        logits: (N, C, ...). A single logit (C = 1) is that of label 1: binary cross entropy.
        labels: (N, ...), integer, in 0..C-1 (0 or 1 for C = 1) or `ignore_index`.
        ignore_index: the label that does not count.
        class_weights: (C,), or (2,) for C = 1; the sum, and the mean over labelled pixels, are then weighted by the
            label's weight.
        average: "labelled" divides by the number (or weight) of what is not ignored, "all" by the number of all pixels
            or points, as mmsegmentation does unless it is told `avg_non_ignore`.
        count: of several processes, see `Count`.
        label_smoothing: the part of the target, in [0, 1), that all classes (for C = 1: both) share equally.
        focal_gamma: the focal loss (arXiv 1708.02002): of each pixel or point (1 - p) ** gamma times the cross entropy,
            where p is the probability of its label, or, with smoothing, exp(-cross entropy); 0 is cross entropy.

    Returns:
        A scalar, float32 or float64, computed at that precision also under autocast.

    Raises:
        ValueError: the shapes disagree, or a label or `average` is not one of the above.
    """
    if logits.shape[0] != labels.shape[0] or logits.shape[2:] != labels.shape[1:]:
        raise ValueError(
            f"logits (N, C, ...) and labels (N, ...) disagree: {tuple(logits.shape)}, {tuple(labels.shape)}"
        )
    if average not in ("labelled", "all"):
        raise ValueError(f"average must be 'labelled' or 'all', got {average!r}")
    num_classes = max(2, logits.shape[1])
    labels = labels.long()
    counted = labels != ignore_index
    target = torch.where(counted, labels, 0)  # any valid index: its weight is 0
    wrong = target[(target < 0) | (target >= num_classes)]
    if len(wrong):
        raise ValueError(
            f"labels must be 0 to {num_classes - 1}, or {ignore_index} (ignored), got also {int(wrong[0])}"
        )
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if logits.shape[1] == 1:
            soft = _smoothed(target.to(logits), label_smoothing)
            each = F.binary_cross_entropy_with_logits(logits.squeeze(1), soft, reduction="none")
        else:
            each = F.cross_entropy(
                logits, labels, ignore_index=ignore_index, reduction="none", label_smoothing=label_smoothing
            )
        each = _focal(each, focal_gamma)
        weight = counted.to(each) if class_weights is None else class_weights.to(each)[target] * counted
        total = (each * weight).sum()
        if average == "all":
            return total / max(1, labels.numel())
        # Nothing but ignored labels: 0 with a graph, not 0 / 0.
        return total / count(weight.sum()).clamp(min=torch.finfo(weight.dtype).tiny)


def independent_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = 255,
    class_weights: Tensor | None = None,
    average: Average = "labelled",
    count: Count = own_count,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Return the mean binary cross entropy of independent classes over pixels or points, and over classes.

    Args:
        logits: (N, C, ...), each the logit of a sigmoid.
        labels: (N, ...), the only class of each pixel, 0..C-1, or `ignore_index`; or (N, C, ...), 1 for each class of a
            pixel, 0 for the others, and `ignore_index` for those that do not count.
        ignore_index: the label that does not count.
        class_weights: (C,), of each class's own binary cross entropy.
        average: as in `semantic_cross_entropy`.
        count: as in `semantic_cross_entropy`.
        label_smoothing: the part of each class's target, in [0, 1), that "yes" and "no" share equally.
        focal_gamma: as in `semantic_cross_entropy`, of each class on its own.

    Returns:
        A scalar, float32 or float64, computed at that precision also under autocast.

    Raises:
        ValueError: the shapes disagree, or a label or `average` is not one of the above.
    """
    classes = logits.shape[1]
    if average not in ("labelled", "all"):
        raise ValueError(f"average must be 'labelled' or 'all', got {average!r}")
    if logits.shape[0] != labels.shape[0] or labels.shape[1:] not in (logits.shape[1:], logits.shape[2:]):
        raise ValueError(
            f"logits (N, C, ...) and labels (N, ...) or (N, C, ...) disagree: "
            f"{tuple(logits.shape)}, {tuple(labels.shape)}"
        )
    labels = labels.long()
    whole = labels.ndim < logits.ndim
    wrong = labels[((labels < 0) | (labels >= (classes if whole else 2))) & (labels != ignore_index)]
    if len(wrong):
        expected = f"0 to {classes - 1}" if whole else "0 or 1"
        raise ValueError(f"labels must be {expected}, or {ignore_index} (ignored), got also {int(wrong[0])}")
    if whole:
        order = torch.arange(classes, device=labels.device).view(-1, *(1 for _ in labels.shape[1:]))
        target, counted = labels.unsqueeze(1) == order, (labels != ignore_index).unsqueeze(1).expand_as(logits)
    else:
        target, counted = labels == 1, labels != ignore_index
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        soft = _smoothed(target.to(logits), label_smoothing)
        each = _focal(F.binary_cross_entropy_with_logits(logits, soft, reduction="none"), focal_gamma)
        weight = counted.to(each)
        if class_weights is not None:
            weight = weight * class_weights.to(each).view(-1, *(1 for _ in logits.shape[2:]))
        total = (each * weight).sum()
        if average == "all":
            return total / max(1, logits.numel())
        return total / count(weight.sum()).clamp(min=torch.finfo(weight.dtype).tiny)


def _smoothed(target: Tensor, smoothing: float) -> Tensor:
    """Return targets in [0, 1] of one logit with label smoothing, which the two classes share."""
    return target * (1 - smoothing) + smoothing / 2 if smoothing else target


def _focal(cross_entropy: Tensor, gamma: float) -> Tensor:
    """Return the focal loss from the cross entropy of each pixel or point, -log p."""
    if not gamma:
        return cross_entropy
    wrong = -torch.expm1(-cross_entropy)  # 1 - p, to all digits where p is nearly 1
    # Where p is 1, the slope of (1 - p) ** gamma is infinite for gamma < 1: it does not count.
    return wrong.clamp(min=torch.finfo(wrong.dtype).tiny) ** gamma * cross_entropy


def point_cross_entropy(
    point_logits: Tensor,
    point_labels: Tensor,
    *,
    ignore_index: int = 255,
    class_weights: Tensor | None = None,
    average: Average = "labelled",
    count: Count = own_count,
) -> Tensor:
    """Return `semantic_cross_entropy` of point logits (N, P, C) against labels (N, P) (paper, section 4.2)."""
    return semantic_cross_entropy(
        point_logits.transpose(1, 2),
        point_labels,
        ignore_index=ignore_index,
        class_weights=class_weights,
        average=average,
        count=count,
    )


def mask_point_loss(point_logits: Tensor, targets: Tensor, *, num_masks: float | Tensor | None = None) -> Tensor:
    """Return the mean binary cross entropy of points against soft targets; 0 for no regions (paper, section 4.1).

    Args:
        point_logits: (R, P), of each region's own class.
        targets: (R, P), in [0, 1]: masks read by bilinear interpolation.
        num_masks: what the sum of the regions' means is divided by, at least 1; None takes R. With the number of a
            whole batch, or its average over processes, the losses of the batch's parts add up to that of the batch.

    Returns:
        A scalar, float32 or float64, computed at that precision also under autocast.

    Raises:
        ValueError: the shapes are not as above.
    """
    logits, targets = paired(point_logits, targets)
    with torch.autocast(logits.device.type, enabled=False):
        total = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        if num_masks is None:
            # No regions: 0 with a graph, not 0 / 0.
            return total / max(1, logits.numel())
        return total / max(1, logits.shape[1]) / at_least_one(num_masks)


def paired(point_logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and targets, both (R, P), in one type: float32 or float64.

    Raises:
        ValueError: the shapes are not as above.
    """
    if point_logits.ndim != 2 or point_logits.shape != targets.shape:
        raise ValueError(
            "point_logits and targets must be (R, P), of one shape, "
            f"got {tuple(point_logits.shape)} and {tuple(targets.shape)}"
        )
    logits = point_logits.to(torch.promote_types(point_logits.dtype, torch.float32))
    return logits, targets.to(logits)


def at_least_one(num_masks: float | Tensor) -> float | Tensor:
    """Return what losses are divided by: 1 where a batch, or this process's part of it, has fewer masks."""
    return num_masks.clamp(min=1) if isinstance(num_masks, Tensor) else max(1.0, num_masks)


@torch.no_grad()
def point_accuracy(
    point_logits: Tensor, point_labels: Tensor, *, ignore_index: int = 255, independent: bool = False
) -> Tensor:
    """Return the ratio of points, ignored ones left out, whose label is predicted: a scalar, NaN for no points.

    Of `independent` classes, the class of a point must be predicted, and no other one.
    """
    predicted = labels_of(point_logits, dim=2, independent=independent)
    counted = point_labels != ignore_index
    if independent:
        point_labels = torch.where(counted, 1 << torch.where(counted, point_labels, 0).long(), point_labels)
    return (predicted == point_labels)[counted].float().mean()
