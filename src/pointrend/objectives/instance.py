"""The training loss of instance PointRend (paper, section 4.1) as a module, so that any strategy can wrap it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads

from pointrend.core import MASK_SAMPLING, LossWeights, Sampling, box_to_image, sample_masks
from pointrend.data import InstanceBatch, InstanceTargets
from pointrend.models import InstancePointRend
from pointrend.models.detector import box_losses
from pointrend.models.mask_losses import Positives, mask_losses, positives_of
from pointrend.models.mask_targets import MaskTargets, coarse_masks
from pointrend.strict import Strict


class InstanceLoss(Strict):
    """The settings of `InstanceObjective`, and the recipe's section `loss`."""

    proposals_per_level: int = Field(2000, ge=1, description="before non-maximum suppression")
    max_proposals: int = Field(1000, ge=1)
    regions: int = Field(512, ge=1, description="proposals of an image that the box head is trained on")
    positive_fraction: float = Field(0.25, gt=0, le=1, description="of these, at most")
    smooth_l1_beta: float = Field(
        0.0, ge=0, description="box losses are squared below this difference; 0: L1, as published"
    )
    sampling: Sampling = MASK_SAMPLING
    weights: LossWeights = Field(LossWeights(), description="of the two mask losses")


class InstanceLosses(NamedTuple):
    """Scalar losses; a NamedTuple, because Fabric strategies traverse tuples."""

    total: Tensor
    objectness: Tensor
    proposals: Tensor
    classes: Tensor
    boxes: Tensor
    coarse: Tensor
    points: Tensor
    accuracy: Tensor
    """The ratio of points that are classified correctly."""


class InstanceObjective(nn.Module):
    """The losses of proposals, classes, boxes, coarse masks and points.

    Strategies synchronise processes through `forward`, so all parts are called inside of it.

    Args:
        network: to train.
        loss: regions, points and weights.
    """

    def __init__(self, network: InstancePointRend, loss: InstanceLoss = InstanceLoss()) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        # It chooses proposals and their targets, and has no parameters.
        self.sampler = RoIHeads(  # type: ignore[no-untyped-call]
            box_roi_pool=None,
            box_head=None,
            box_predictor=None,
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=loss.regions,
            positive_fraction=loss.positive_fraction,
            bbox_reg_weights=network.box_coder.weights,
            score_thresh=0.0,
            nms_thresh=0.5,
            detections_per_img=1,
        )

    def counted(self, batch: InstanceBatch) -> Tensor:
        """Return what the losses of a batch are averaged over, relative to other batches: images."""
        return torch.tensor(len(batch.images), device=batch.images.device)

    def forward(self, batch: InstanceBatch, seed: int) -> InstanceLosses:
        """Return the losses of a batch; points depend on `seed`, proposals on torch's global generator."""
        network = self.network
        features = network.features(batch.images, batch.valid)
        raw = network.rpn.raw(features.pyramid)
        # torchvision counts classes from 1: 0 is the background.
        wanted = [{"boxes": t.boxes.float(), "labels": t.classes + 1} for t in batch.targets]
        objectness, proposal_loss = network.rpn.losses(
            raw, wanted, batch.valid, smooth_l1_beta=self.loss.smooth_l1_beta
        )
        proposals = network.rpn.proposals(
            raw, batch.valid, per_level=self.loss.proposals_per_level, total=self.loss.max_proposals
        )
        regions, matched, labels, regression = self.sampler.select_training_samples(
            [p.boxes for p in proposals], wanted
        )
        output = network.boxes(features, regions)
        class_loss, box_loss = box_losses(
            output.class_logits, output.deltas, labels, regression, smooth_l1_beta=self.loss.smooth_l1_beta
        )
        positives = positives_of(network.decoded(output, regions).detach(), labels, matched)
        coarse, points, accuracy = mask_losses(
            network.mask_head,
            features.fine,
            positives,
            features.size,
            MaskTargets(
                points=lambda points_box: sample_targets(batch.targets, positives, points_box, features.size),
                coarse=lambda side: coarse_targets(batch.targets, positives, side, batch.valid),
            ),
            self.loss.sampling,
            generator=torch.Generator(device=batch.images.device).manual_seed(seed),
        )
        masks = self.loss.weights.coarse * coarse + self.loss.weights.points * points
        return InstanceLosses(
            total=objectness + proposal_loss + class_loss + box_loss + masks,
            objectness=objectness.detach(),
            proposals=proposal_loss.detach(),
            classes=class_loss.detach(),
            boxes=box_loss.detach(),
            coarse=coarse.detach(),
            points=points.detach(),
            accuracy=accuracy,
        )


def sample_targets(
    targets: Sequence[InstanceTargets], positives: Positives, points_box: Tensor, size: tuple[int, int]
) -> Tensor:
    """Return the masks of the matched instances, read bilinearly at points (R, P, 2) of the boxes: (R, P) in [0, 1]."""
    points = torch.split(box_to_image(points_box, torch.cat(positives.boxes), size), [len(b) for b in positives.boxes])
    read = []
    for target, matched, of_image in zip(targets, positives.matched, points, strict=True):
        layers, instance_ids = target.layers[matched], target.instance_ids[matched]
        values = torch.zeros(of_image.shape[:2], device=of_image.device)
        for layer in torch.unique(layers).tolist():
            members = torch.nonzero(layers == layer)[:, 0]
            ids = target.ids[layer].expand(len(members), -1, -1)
            values[members] = sample_masks(ids, instance_ids[members], of_image[members])
        read.append(values)
    return torch.cat(read)


def coarse_targets(
    targets: Sequence[InstanceTargets], positives: Positives, side: int, valid: Sequence[tuple[int, int]]
) -> Tensor:
    """Return what the coarse masks of all regions should be; see `coarse_masks`.

    Args:
        targets: of each image.
        positives: the regions.
        side: pixels of a side of the coarse masks.
        valid: (h, w) of each image without padding.

    Returns:
        (R, side, side), 0 or 1.
    """
    made = []
    for target, matched, boxes, size in zip(targets, positives.matched, positives.boxes, valid, strict=True):
        made.append(coarse_masks(partial(_mask_of, target, size), matched, boxes, side))
    return torch.cat(made)


def _mask_of(target: InstanceTargets, size: tuple[int, int], index: int) -> Tensor:
    """Return the mask of an instance as `coarse_masks` takes it, without most of what lies to its right and below."""
    right, bottom = (int(edge) + 1 for edge in target.boxes[index, 2:])
    ids = target.ids[target.layers[index], : min(size[0], bottom), : min(size[1], right)]
    return ids == target.instance_ids[index]
