"""The training loss of instance PointRend (paper, section 4.1) as a module, so that any strategy can wrap it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss

from pointrend.core import box_to_image, sample_masks
from pointrend.data.instances import InstanceBatch, InstanceTargets
from pointrend.models import InstancePointRend
from pointrend.models.mask_losses import Positives, mask_losses, positives_of


class InstanceLosses(NamedTuple):
    """Scalars. A tuple, which every strategy knows how to look into."""

    total: Tensor
    objectness: Tensor
    proposals: Tensor
    classes: Tensor
    boxes: Tensor
    coarse: Tensor
    points: Tensor
    accuracy: Tensor
    """The share of points on the right side of the mask."""


class InstanceObjective(nn.Module):
    """The losses of proposals, classes, boxes, coarse masks and points.

    Processes are kept in step through `forward`, so all parts are asked inside of it.

    Args:
        network: what is trained.
        proposals_per_level, max_proposals: see `ProposalNetwork.proposals`.
        regions: proposals of an image that the box head is trained on.
        positive_share: of these, at most.
        num_points, oversample, importance: see `core.training_points`.
        coarse_weight, point_weight: of the two mask losses.
    """

    def __init__(
        self,
        network: InstancePointRend,
        *,
        proposals_per_level: int = 2000,
        max_proposals: int = 1000,
        regions: int = 512,
        positive_share: float = 0.25,
        num_points: int = 196,
        oversample: float = 3.0,
        importance: float = 0.75,
        coarse_weight: float = 1.0,
        point_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.proposals_per_level = proposals_per_level
        self.max_proposals = max_proposals
        self.num_points = num_points
        self.oversample = oversample
        self.importance = importance
        self.coarse_weight = coarse_weight
        self.point_weight = point_weight
        # torchvision's choice of proposals and their targets; it has no parameters.
        self.sampler = RoIHeads(  # type: ignore[no-untyped-call]
            box_roi_pool=None,
            box_head=None,
            box_predictor=None,
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=regions,
            positive_fraction=positive_share,
            bbox_reg_weights=network.box_coder.weights,
            score_thresh=0.0,
            nms_thresh=0.5,
            detections_per_img=1,
        )

    def forward(self, batch: InstanceBatch, seed: int) -> InstanceLosses:
        """The losses of a batch; `seed` decides the points, torch's global generator the proposals."""
        network = self.network
        features = network.features(batch.images, batch.valid)
        raw = network.rpn.raw(features.pyramid)
        # torchvision counts classes from 1: 0 is the background.
        wanted = [{"boxes": t.boxes.float(), "labels": t.classes + 1} for t in batch.targets]
        objectness, proposal_loss = network.rpn.losses(raw, wanted, batch.valid)
        proposals = network.rpn.proposals(
            raw, batch.valid, per_level=self.proposals_per_level, total=self.max_proposals
        )
        regions, matched, labels, regression = self.sampler.select_training_samples(
            [p.boxes for p in proposals], wanted
        )
        output = network.boxes(features, regions)
        class_loss, box_loss = fastrcnn_loss(output.class_logits, output.deltas, labels, regression)
        positives = positives_of(network.decoded(output, regions).detach(), labels, matched)
        coarse, points, accuracy = mask_losses(
            network.mask_head,
            features.fine,
            positives,
            features.size,
            lambda points_box: sample_targets(batch.targets, positives, points_box, features.size),
            num_points=self.num_points,
            oversample=self.oversample,
            importance=self.importance,
            generator=torch.Generator(device=batch.images.device).manual_seed(seed),
        )
        return InstanceLosses(
            total=objectness
            + proposal_loss
            + class_loss
            + box_loss
            + self.coarse_weight * coarse
            + self.point_weight * points,
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
    """The masks of the matched instances, read bilinearly at points (R, P, 2) of the boxes: (R, P) in [0, 1]."""
    points = torch.split(box_to_image(points_box, torch.cat(positives.boxes), size), [len(b) for b in positives.boxes])
    read = []
    for target, matched, of_image in zip(targets, positives.matched, points, strict=True):
        layers, own = target.layers[matched], target.own[matched]
        values = torch.zeros(of_image.shape[:2], device=of_image.device)
        for layer in torch.unique(layers).tolist():
            members = torch.nonzero(layers == layer)[:, 0]
            ids = target.ids[layer].expand(len(members), -1, -1)
            values[members] = sample_masks(ids, own[members], of_image[members])
        read.append(values)
    return torch.cat(read)
