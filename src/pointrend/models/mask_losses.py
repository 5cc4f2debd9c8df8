"""The losses of the mask side, for any detector (paper, section 4.1).

Shapes: R regions of all images, C classes, P points, h w an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pointrend.core import (
    MASK_SAMPLING,
    Sampling,
    mask_point_loss,
    training_points,
)
from pointrend.models.mask_head import PointRendMaskHead
from pointrend.models.mask_targets import MaskTargets
from pointrend.processes import mean_over_processes


class Positives(NamedTuple):
    """The regions that masks are trained on, image by image, and their instances."""

    boxes: tuple[Tensor, ...]
    """(R, 4) of each image: the predicted boxes, not the proposals."""
    classes: Tensor
    """(R,) of all images."""
    matched: tuple[Tensor, ...]
    """(R,) of each image: the index of each region's instance."""


class MaskLosses(NamedTuple):
    """Scalar losses."""

    coarse: Tensor
    points: Tensor
    accuracy: Tensor
    """The ratio of points on the right side of the mask."""


def positives_of(decoded: Tensor, labels: Sequence[Tensor], matched: Sequence[Tensor]) -> Positives:
    """Return the regions with an object, in the boxes predicted for its class.

    Args:
        decoded: (R, C + 1, 4), the boxes predicted for each class, the background first.
        labels: (R,) of each image, 0 for background.
        matched: (R,) of each image, the instance of each region.
    """
    boxes, instances, classes = [], [], []
    of_images = torch.split(decoded, [len(of_image) for of_image in labels])
    for of_image, label, instance in zip(of_images, labels, matched, strict=True):
        index = torch.nonzero(label > 0)[:, 0]
        boxes.append(of_image[index, label[index]])
        instances.append(instance[index])
        classes.append(label[index] - 1)
    return Positives(tuple(boxes), torch.cat(classes), tuple(instances))


def mask_losses(
    head: PointRendMaskHead,
    fine: Sequence[Tensor],
    positives: Positives,
    size: tuple[int, int],
    targets: MaskTargets,
    sampling: Sampling = MASK_SAMPLING,
    *,
    generator: torch.Generator | None = None,
) -> MaskLosses:
    """Return the losses of coarse masks and of points; both are 0 for no regions.

    Args:
        head: what is trained.
        fine: as in `PointRendMaskHead.point_logits`; the first map is P2.
        positives: the regions.
        size: (H, W) of the input, with its padding.
        targets: what the masks should be; not read without regions.
        sampling, generator: see `core.training_points`.
    """
    boxes, classes, _ = positives
    # Processes without regions take part in this.
    count = mean_over_processes(torch.tensor(float(len(classes)), device=fine[0].device))
    if len(classes) == 0:
        # Every parameter keeps a gradient, as processes that have positives expect it to.
        nothing = torch.stack([p.float().sum() for p in head.parameters()]).sum() * 0
        return MaskLosses(nothing, nothing, torch.ones((), device=nothing.device))
    coarse = head.coarse(fine[0], boxes, size)
    own = head.of_class(coarse, classes).float()
    coarse_targets = targets.coarse(own.shape[-1])
    coarse_loss = mask_point_loss(own[:, 0].flatten(1), coarse_targets.flatten(1), num_masks=count)
    points = training_points(
        own.detach(),
        sampling,
        generator=generator,
        padding=head.padding,
    )
    logits = head.point_logits(fine, coarse, boxes, classes, points, size)[..., 0].float()
    wanted = targets.points(points)
    right = ((logits.detach() > 0) == (wanted > 0.5)).float().mean()
    return MaskLosses(coarse_loss, mask_point_loss(logits, wanted, num_masks=count), right)
