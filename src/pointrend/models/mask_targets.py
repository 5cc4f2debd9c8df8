"""What the masks of regions are trained to be, for any detector.

Shapes: R regions, P points, h w an image without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import roi_align

from pointrend.core import box_to_image, sample_masks


class MaskTargets(NamedTuple):
    """Two ways to read the instance masks of all regions."""

    points: Callable[[Tensor], Tensor]
    """Maps points (R, P, 2) of the boxes to each region's instance mask there: (R, P) in [0, 1], read bilinearly."""
    coarse: Callable[[int], Tensor]
    """Maps the side of coarse masks to what they should be: (R, side, side), 0 or 1."""


def bitmask_targets(masks: Sequence[Tensor], matched: Sequence[Tensor], boxes: Sequence[Tensor]) -> MaskTargets:
    """Return the targets of regions from masks.

    Args:
        masks: (R, h, w) of each image, 0 outside.
        matched: (R,) of each image, the index of each box's mask.
        boxes: (R, 4) of each image, xyxy in pixels of the masks.
    """

    def coarse(side: int) -> Tensor:
        images = zip(masks, matched, boxes, strict=True)
        return torch.cat([coarse_masks(partial(_bitmask, m), own, of_image, side) for m, own, of_image in images])

    return MaskTargets(lambda points_box: read_bitmasks(masks, matched, boxes, points_box), coarse)


def read_bitmasks(
    masks: Sequence[Tensor], matched: Sequence[Tensor], boxes: Sequence[Tensor], points_box: Tensor
) -> Tensor:
    """Read the masks of the matched instances bilinearly at points of the boxes.

    Args:
        masks, matched, boxes: see `bitmask_targets`.
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


def coarse_masks(mask_of: Callable[[int], Tensor], matched: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Return what the coarse masks of one image should be: 1 where at least half of a pixel is the instance.

    The mask is averaged by aligned RoIAlign with as many samples as the box has pixels, as detectron2 does.

    Args:
        mask_of: maps an index to its instance mask, (h, w) bool. Rows and columns without the instance may be missing
            at the bottom and the right, but for one of each.
        matched: (R,), the index of each box's instance.
        boxes: (R, 4), xyxy in pixels of the masks; they may reach beyond them.
        side: pixels of a side of the coarse masks.

    Returns:
        (R, side, side), float32, 0 or 1.
    """
    targets = boxes.new_zeros((len(boxes), side, side), dtype=torch.float32)
    for index in torch.unique(matched).tolist():
        mask = mask_of(index)
        members = torch.nonzero((matched == index) & _may_reach_half(boxes, (mask.shape[0], mask.shape[1]), side))[:, 0]
        rois = [boxes[members].float()]
        ratio = roi_align(mask[None, None].float(), rois, side, sampling_ratio=0, aligned=True)
        targets[members] = (ratio[:, 0] >= 0.5).float()
    return targets


def _bitmask(masks: Tensor, index: int) -> Tensor:
    return masks[index] != 0


def _may_reach_half(boxes: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """Return (R,) whether a mask of a size can fill half of a coarse pixel of a box.

    Of other boxes the target is 0. Early in training they may be so large that RoIAlign would take a billion samples.
    At most `h + 2` rows of samples, which are a pixel apart or less, read something of a mask of `h` rows.
    """
    extent = (boxes[:, 2:] - boxes[:, :2]).float() / side
    ratio = (extent.new_tensor((size[1] + 2, size[0] + 2)) / extent).clamp(max=1).prod(dim=1)
    return boxes.isfinite().all(dim=1) & (ratio >= 0.5)
