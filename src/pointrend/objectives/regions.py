"""Losses of whole regions: they compare areas, not pixels, and are those of segmentation-models-pytorch.

Shapes: N images, C classes, H W grid. Labels are (N, H, W), in 0..C-1 (0 or 1 for C = 1) or ignored. Losses are scalars
in float32, also under autocast; where all is ignored they are 0, with a gradient of 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pointrend.data import IGNORE


def dice_loss(logits: Tensor, labels: Tensor, *, independent: bool = False) -> Tensor:
    """Return the Dice loss (arXiv 1606.04797): 1 - 2 sum(p t) / (sum(p) + sum(t)) over the pixels of the batch.

    It is averaged over all C classes, where one without a labelled pixel counts with 0. A single logit has the loss of
    label 1. `independent` classes have probabilities of their own.
    """
    mode = "multilabel" if independent else "binary" if logits.shape[1] == 1 else "multiclass"
    targets = _of_each_class(labels, logits.shape[1]) if independent else labels.long()
    with torch.autocast(logits.device.type, enabled=False):
        loss: Tensor = _library().DiceLoss(mode, ignore_index=IGNORE)(logits.float().contiguous(), targets)
    return loss


def lovasz_loss(logits: Tensor, labels: Tensor, *, independent: bool = False) -> Tensor:
    """Return the Lovász loss (arXiv 1705.08790), a surrogate of 1 - IoU over the pixels of the batch.

    It is Lovász-Softmax averaged over the classes that occur; of a single logit, and of each of `independent` classes,
    whose mean is taken, the Lovász hinge.
    """
    if not (labels != IGNORE).any():  # the library fails
        return logits.float().sum() * 0
    library = _library()
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float().contiguous()  # version 0.5 fails on other layouts
        if logits.shape[1] == 1 or independent:
            hinge = library.LovaszLoss("binary", ignore_index=IGNORE)
            targets = _of_each_class(labels, logits.shape[1]) if independent else labels.long().unsqueeze(1)
            pairs = zip(logits.unbind(1), targets.unbind(1), strict=True)
            return torch.stack([hinge(logit.contiguous(), target.contiguous()) for logit, target in pairs]).mean()
        loss: Tensor = library.LovaszLoss("multiclass", ignore_index=IGNORE)(logits, labels.long())
    return loss


def require_region_losses() -> None:
    """Raise ImportError with the install command if the library of the losses is missing."""
    _library()


def _library() -> Any:
    try:
        from segmentation_models_pytorch import losses
    except ImportError as error:
        raise ImportError(
            "loss.dice and loss.lovasz need segmentation-models-pytorch: pip install 'pointrend[train]'"
        ) from error
    return losses


def _of_each_class(labels: Tensor, classes: int) -> Tensor:
    """Return (N, C, H, W): 1 where a pixel is of a class, 0 elsewhere, and ignored ones as they are."""
    order = torch.arange(classes, device=labels.device).view(-1, 1, 1)
    whole = labels.long().unsqueeze(1)
    return torch.where(whole == IGNORE, IGNORE, (whole == order).long())
