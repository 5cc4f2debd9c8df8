"""Labels from logits; ties go to the first class.

Where classes are independent of each other, a pixel has several of them or none. Its label is then a number, whose bit
c is set if the pixel is of class c.

Shapes: N images, C classes, H W grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_INDEPENDENT = 31
"""Maximum number of independent classes: their bits are kept in int32."""


def labels_of(logits: Tensor, *, dim: int, independent: bool = False) -> Tensor:
    """Return the predicted label: the first of the best classes; of a single logit, 1 where it is above 0.

    Of `independent` classes, bit c is set where logit c is above 0.

    Raises:
        ValueError: there are more than `MAX_INDEPENDENT` independent classes.
    """
    if independent:
        check_independent(logits.shape[dim])
        bits = torch.arange(logits.shape[dim], device=logits.device)
        return ((logits.movedim(dim, -1) > 0).long() << bits).sum(-1)
    if logits.shape[dim] == 1:
        return (logits.squeeze(dim) > 0).long()
    return logits.argmax(dim)


def check_independent(classes: int) -> None:
    """Raise `ValueError` if there are more independent classes than a label has bits."""
    if classes > MAX_INDEPENDENT:
        raise ValueError(f"expected at most {MAX_INDEPENDENT} independent classes, got {classes}")


def class_masks(labels: Tensor, classes: int) -> Tensor:
    """Return whether pixels are of each class, (..., C, H, W) bool, from labels (..., H, W) of independent classes."""
    bits = torch.arange(classes, device=labels.device).view(-1, 1, 1)
    return (labels.long().unsqueeze(-3) >> bits) & 1 == 1


def resized_labels(logits: Tensor, size: tuple[int, int], *, independent: bool = False) -> Tensor:
    """Resize logits bilinearly and take the labels, one class at a time.

    The result is that of `labels_of(F.interpolate(logits, size, mode="bilinear"), dim=1)` without C maps of the new
    size, which for 150 classes and 12 megapixels take 7 GB.

    Args:
        logits: (N, C, H, W), any floating type; half precision is resized in float32.
        size: the new (H, W).
        independent: see `labels_of`.

    Returns:
        (N, *size), int64.
    """

    def resized(channel: int) -> Tensor:
        one = logits[:, channel : channel + 1]
        one = one.to(torch.promote_types(one.dtype, torch.float32))  # rounding to half precision makes ties
        return F.interpolate(one, size=size, mode="bilinear", align_corners=False)[:, 0]

    if independent:
        check_independent(logits.shape[1])
        found = (resized(0) > 0).long()
        for channel in range(1, logits.shape[1]):
            found |= (resized(channel) > 0).long() << channel
        return found
    if logits.shape[1] == 1:
        return (resized(0) > 0).long()
    best = resized(0)
    labels = torch.zeros(best.shape, dtype=torch.int64, device=logits.device)
    for channel in range(1, logits.shape[1]):
        candidate = resized(channel)
        better = candidate > best
        labels[better] = channel
        best = torch.maximum(best, candidate)
    return labels
