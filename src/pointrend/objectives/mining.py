"""Online hard example mining (OHEM, arXiv 1604.03540): easy pixels do not count."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from pointrend.data import IGNORE
from pointrend.strict import Strict


class HardPixels(Strict):
    """Which pixels of a map count: those that the network is unsure of or wrong about."""

    threshold: float = Field(
        0.0, ge=0, le=1, description="pixels count whose class has a lower probability, for instance 0.7; 0: all count"
    )
    min_kept: int = Field(
        100_000,
        ge=1,
        description="so many pixels for each image of a batch count, the hardest ones, whatever they have",
    )


@torch.no_grad()
def hard_labels(logits: Tensor, labels: Tensor, settings: HardPixels) -> Tensor:
    """Return the labels with the easy pixels ignored.

    A pixel is easy if its class has a probability of at least `threshold` and it is not among the `min_kept` * N pixels
    of the batch whose class has the lowest, as in mmsegmentation's `OHEMPixelSampler`.

    Args:
        logits: (N, C, H, W); a single logit (C = 1) is that of label 1.
        labels: (N, H, W), in 0..C-1 (0 or 1 for C = 1) or ignored.
        settings: which pixels count.
    """
    counted = labels != IGNORE
    target = torch.where(counted, labels, 0).long().unsqueeze(1)
    logits = logits.float()
    if logits.shape[1] == 1:
        probability = torch.where(target == 1, logits, -logits).sigmoid()
    else:
        # Of the label alone: the softmax of all classes is a map as large as the logits.
        probability = (logits.gather(1, target) - logits.logsumexp(1, keepdim=True)).exp()
    probability = torch.where(counted, probability.squeeze(1), torch.inf)
    hard = probability < settings.threshold
    if kept := min(settings.min_kept * len(labels), int(counted.sum())):
        hard |= probability <= probability.flatten().kthvalue(kept).values
    return torch.where(hard & counted, labels, IGNORE)
