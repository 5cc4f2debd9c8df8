"""Instance PointRend: backbone, pyramid, detector and mask side, joined.

Shapes: N images, R regions, C classes, H W the input's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from pointrend.core import MASK_SUBDIVISION, Subdivision, check_finite
from pointrend.models.backbones import PYRAMID_STRIDES, Backbone, backbone_and_pyramid, pyramid_maps
from pointrend.models.detector import (
    Anchors,
    Detections,
    LevelRoIAlign,
    ProposalNetwork,
    best_detections,
)
from pointrend.models.mask_head import PointRendMaskHead, mask_head
from pointrend.models.settings import Detection, InstanceArchitecture

ANCHOR_STRIDES = (*PYRAMID_STRIDES, 64)
BOX_SIDE = 7
"""Cells of the box head's RoIAlign."""


class InstanceFeatures(NamedTuple):
    """What the encoder computes of a batch."""

    pyramid: tuple[Tensor, ...]
    """(N, D, ., .) at strides 4, 8, 16, 32, 64."""
    fine: tuple[Tensor, ...]
    """Maps that the mask side reads, concatenated; P2 first, and alone in the published models."""
    size: tuple[int, int]
    """(H, W) of the input, with its padding: what points are relative to."""
    valid: tuple[tuple[int, int], ...]
    """(h, w) of each image without padding: what boxes are clipped to."""


class InstanceOutput(NamedTuple):
    """Features and detections, from which masks are rendered."""

    features: InstanceFeatures
    detections: tuple[Detections, ...]
    """One for each image."""


class BoxOutput(NamedTuple):
    """The output of the box head for regions."""

    class_logits: Tensor
    """(R, C + 1), the background first."""
    deltas: Tensor
    """(R, 4 * (C + 1)), relative to the region, for each class."""


class InstancePointRend(nn.Module):
    """PointRend on Mask R-CNN's detector (paper, section 4.1).

    Args:
        backbone: gives maps at `backbone.strides`, of which the last four are 4, 8, 16, 32.
        pyramid: torchvision's FPN over these four, with a fifth level of stride 64.
        rpn: makes proposals of the five levels.
        box_pool: reads boxes from the first four levels.
        box_head, box_predictor: predict classes and boxes from what was read.
        box_coder: encodes boxes relative to proposals.
        mask_head: masks of boxes.

    `instance_pointrend` builds one from numbers.
    """

    encoder_parts = ("backbone", "pyramid")
    """What `maps` is computed by; see `with_encoder`."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        pyramid: FeaturePyramidNetwork,
        rpn: ProposalNetwork,
        box_pool: LevelRoIAlign,
        box_head: nn.Module,
        box_predictor: nn.Module,
        box_coder: BoxCoder,
        mask_head: PointRendMaskHead,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.rpn = rpn
        self.box_pool = box_pool
        self.box_head = box_head
        self.box_predictor = box_predictor
        self.box_coder = box_coder
        self.mask_head = mask_head

    def forward(
        self,
        images: Tensor,
        valid: Sequence[tuple[int, int]] | None = None,
        detection: Detection = Detection(),
    ) -> InstanceOutput:
        """Detect objects; `render` makes their masks.

        Args:
            images: (N, 3, H, W), normalised as the model expects.
            valid: (h, w) of each image without padding; None for images without any.
            detection: how boxes are found.

        Raises:
            ValueError: logits are not finite.
        """
        features = self.features(images, valid)
        raw = self.rpn.raw(features.pyramid)
        # Without these checks there would be no objects, as if the image had none.
        for objectness in raw.objectness:
            check_finite(objectness, "objectness logits")
        proposals = self.rpn.proposals(
            raw,
            features.valid,
            per_level=detection.proposals_per_level,
            total=detection.max_proposals,
            nms=detection.proposal_nms,
        )
        boxes = [p.boxes for p in proposals]
        output = self.boxes(features, boxes)
        check_finite(output.class_logits, "class logits")
        counts = [len(b) for b in boxes]
        decoded = torch.split(self.decoded(output, boxes), counts)
        logits = torch.split(output.class_logits, counts)
        detections = tuple(
            best_detections(logits[i], decoded[i], features.valid[i], detection) for i in range(len(boxes))
        )
        return InstanceOutput(features, detections)

    def features(self, images: Tensor, valid: Sequence[tuple[int, int]] | None = None) -> InstanceFeatures:
        """Run the encoder on images (N, 3, H, W)."""
        size = (images.shape[2], images.shape[3])
        maps = tuple(self.maps(images))
        pyramid, early = maps[: len(ANCHOR_STRIDES)], maps[len(ANCHOR_STRIDES) :]
        whole = (size,) * len(images)
        return InstanceFeatures(pyramid, (pyramid[0], *early), size, whole if valid is None else tuple(valid))

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what `features` is made of as plain tensors: the pyramid, then the other fine maps."""
        pyramid, early = pyramid_maps(self.backbone, self.pyramid, images)
        return (*pyramid, *early)

    def boxes(self, features: InstanceFeatures, boxes: Sequence[Tensor]) -> BoxOutput:
        """Run the box head on regions: (R, 4) of each image, xyxy in pixels of the input."""
        pooled = self.box_pool(features.pyramid, boxes)
        class_logits, deltas = self.box_predictor(self.box_head(pooled))
        return BoxOutput(class_logits.float(), deltas.float())

    def decoded(self, output: BoxOutput, boxes: Sequence[Tensor]) -> Tensor:
        """Decode the boxes (R, C + 1, 4) that `output` predicts for regions `boxes`, (R, 4) of each image."""
        decoded: Tensor = self.box_coder.decode(output.deltas, list(boxes))
        # Without any boxes torchvision returns another shape.
        return decoded.reshape(len(output.deltas), output.deltas.shape[1] // 4, 4)

    def render(self, output: InstanceOutput, subdivision: Subdivision = MASK_SUBDIVISION) -> list[Tensor]:
        """Return mask logits of all detections, of all images, at every stage; see `PointRendMaskHead.render`."""
        features, detections = output.features, output.detections
        classes = torch.cat([d.classes for d in detections])
        return self.mask_head.render(features.fine, [d.boxes for d in detections], classes, features.size, subdivision)


def instance_pointrend(
    num_classes: int, architecture: InstanceArchitecture = InstanceArchitecture()
) -> InstancePointRend:
    """Build an `InstancePointRend` with new weights; the defaults are the published settings.

    Args:
        num_classes: C, without the background.
        architecture: all other numbers.

    Raises:
        ValueError: `num_classes` is out of its range, or the backbone will not do (see `Backbone`).
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    channels = architecture.fpn_channels
    backbone, pyramid, fine_channels = backbone_and_pyramid(architecture, extra_blocks=LastLevelMaxPool())
    return InstancePointRend(
        backbone=backbone,
        pyramid=pyramid,
        rpn=_rpn(channels, architecture.anchor_sizes, architecture.anchor_ratios),
        box_pool=LevelRoIAlign(
            output_size=BOX_SIDE, strides=PYRAMID_STRIDES, canonical_size=architecture.box_canonical_size
        ),
        box_head=TwoMLPHead(channels * BOX_SIDE**2, architecture.box_hidden),  # type: ignore[no-untyped-call]
        box_predictor=FastRCNNPredictor(architecture.box_hidden, num_classes + 1),  # type: ignore[no-untyped-call]
        box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)),
        mask_head=mask_head(num_classes, channels, architecture.mask, fine_channels=fine_channels),
    )


def _rpn(channels: int, sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> ProposalNetwork:
    anchors = Anchors(sizes=sizes, aspect_ratios=ratios, strides=ANCHOR_STRIDES)
    return ProposalNetwork(
        anchors,
        RPNHead(channels, len(ratios) * len(sizes[0])),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={},  # given with each call
        post_nms_top_n={},
        nms_thresh=0.7,
    )
