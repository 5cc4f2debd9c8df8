"""Labels from logits; ties go to the first class.

Shapes: N images, C classes, H W grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def labels_of(logits: Tensor, *, dim: int) -> Tensor:
    """Return the predicted label: the first of the best classes; of a single logit, 1 where it is above 0."""
    if logits.shape[dim] == 1:
        return (logits.squeeze(dim) > 0).long()
    return logits.argmax(dim)


def resized_labels(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize logits bilinearly and take the labels, one class at a time.

    The result is that of `labels_of(F.interpolate(logits, size, mode="bilinear"), dim=1)` without C maps of the new
    size, which for 150 classes and 12 megapixels take 7 GB.

    Args:
        logits: (N, C, H, W), any floating type; half precision is resized in float32.
        size: the new (H, W).

    Returns:
        (N, *size), int64.
    """

    def resized(channel: int) -> Tensor:
        one = logits[:, channel : channel + 1]
        one = one.to(torch.promote_types(one.dtype, torch.float32))  # rounding to half precision makes ties
        return F.interpolate(one, size=size, mode="bilinear", align_corners=False)[:, 0]

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
