"""The losses of the mask side, for any detector (paper, section 4.1).

Shapes: R regions of all images, C classes, P points, h w an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core import (
    MASK_SAMPLING,
    Sampling,
    box_to_image,
    mask_point_loss,
    regular_grid,
    sample_masks,
    training_points,
)
from pointrend.models.mask_head import PointRendMaskHead

SUPERSAMPLES = 4
"""Points along each side of a coarse mask's pixel; its target is what most of them read."""

MaskReader = Callable[[Tensor], Tensor]
"""Maps points (R, P, 2) of the boxes to each region's instance mask there: (R, P) in [0, 1], read bilinearly."""


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
    read: MaskReader,
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
        read: gives the targets; not called without regions.
        sampling, generator: see `core.training_points`.
    """
    boxes, classes, _ = positives
    if len(classes) == 0:
        # Every parameter keeps a gradient, as processes that have positives expect it to.
        nothing = torch.stack([p.float().sum() for p in head.parameters()]).sum() * 0
        return MaskLosses(nothing, nothing, torch.ones((), device=nothing.device))
    coarse = head.coarse(fine[0], boxes, size)
    own = head.of_class(coarse, classes).float()
    coarse_loss = F.binary_cross_entropy_with_logits(own[:, 0], _coarse_targets(own, read))
    points = training_points(
        own.detach(),
        sampling,
        generator=generator,
        padding=head.padding,
    )
    logits = head.point_logits(fine, coarse, boxes, classes, points, size)[..., 0].float()
    wanted = read(points)
    right = ((logits.detach() > 0) == (wanted > 0.5)).float().mean()
    return MaskLosses(coarse_loss, mask_point_loss(logits, wanted), right)


def read_bitmasks(
    masks: Sequence[Tensor], matched: Sequence[Tensor], boxes: Sequence[Tensor], points_box: Tensor
) -> Tensor:
    """Read the masks of the matched instances bilinearly at points of the boxes.

    Args:
        masks: (R, h, w) of each image, 0 outside.
        matched: (R,) of each image, the index of each box's mask.
        boxes: (R, 4) of each image, xyxy in pixels of the masks.
        points_box: (R, P, 2), of all images, in the frame of each box.

    Returns:
        (R, P), in [0, 1].
    """
    read = []
    of_images = torch.split(points_box, [len(b) for b in boxes])
    for of_image, instances, image_boxes, points in zip(masks, matched, boxes, of_images, strict=True):
        places = box_to_image(points, image_boxes, (of_image.shape[1], of_image.shape[2]))
        values = torch.zeros_like(points[..., 0])
        for instance in torch.unique(instances).tolist():
            members = torch.nonzero(instances == instance)[:, 0]
            # One mask for all boxes of the instance: a copy for each would be larger than the network.
            own = (of_image[instance] != 0).byte().expand(len(members), -1, -1)
            values[members] = sample_masks(own, own.new_ones(len(members)), places[members])
        read.append(values)
    return torch.cat(read)


def _coarse_targets(own: Tensor, read: MaskReader) -> Tensor:
    """Return (R, side, side) for logits (R, 1, side, side): 1 where most of a coarse pixel is the instance."""
    fine = own.shape[-1] * SUPERSAMPLES
    ratio = read(regular_grid((fine, fine), batch=len(own), device=own.device)).view(-1, 1, fine, fine)
    return (F.avg_pool2d(ratio, SUPERSAMPLES)[:, 0] >= 0.5).float()
