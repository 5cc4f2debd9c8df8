"""Instance PointRend: backbone, pyramid, detector and mask side, joined.

Shapes: N images, R regions, C classes, H W the input's size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from pointrend.core.points import Padding
from pointrend.models.backbones import PYRAMID_STRIDES, Backbone
from pointrend.models.detector import (
    Anchors,
    Detections,
    LevelRoIAlign,
    ProposalNetwork,
    best_detections,
)
from pointrend.models.mask_head import CoarseMaskHead, PointRendMaskHead
from pointrend.models.point_head import PointHead

ANCHOR_STRIDES = (*PYRAMID_STRIDES, 64)
BOX_SIDE = 7
"""Cells of the box head's RoIAlign."""


class InstanceFeatures(NamedTuple):
    """What the dense part computes once for a batch."""

    pyramid: tuple[Tensor, ...]
    """(N, D, ., .) at strides 4, 8, 16, 32, 64."""
    fine: tuple[Tensor, ...]
    """Maps that the mask side reads, concatenated; P2 first, and alone in the published models."""
    size: tuple[int, int]
    """(H, W) of the input, with its padding: what points are relative to."""
    valid: tuple[tuple[int, int], ...]
    """(h, w) of each image without padding: what boxes are clipped to."""


class InstanceOutput(NamedTuple):
    """Features and detections; masks are rendered from them."""

    features: InstanceFeatures
    detections: tuple[Detections, ...]
    """Of each image."""


class BoxOutput(NamedTuple):
    """What the box head says of regions."""

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
        box_head, box_predictor: classes and boxes of what was read.
        box_coder: how boxes are told relative to proposals.
        mask_head: masks of boxes.

    `instance_pointrend` builds one from numbers.
    """

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
        *,
        proposals_per_level: int = 1000,
        max_proposals: int = 1000,
        proposal_nms: float = 0.7,
        score_threshold: float = 0.05,
        nms: float = 0.5,
        max_detections: int = 100,
    ) -> InstanceOutput:
        """Detect objects; `render` makes their masks.

        Args:
            images: (N, 3, H, W), normalised as the model expects.
            valid: (h, w) of each image without padding; None for images without any.
            proposals_per_level, max_proposals, proposal_nms: see `ProposalNetwork.proposals`.
            score_threshold, nms, max_detections: see `best_detections`.
        """
        features = self.features(images, valid)
        proposals = self.rpn.proposals(
            self.rpn.raw(features.pyramid),
            features.valid,
            per_level=proposals_per_level,
            total=max_proposals,
            nms=proposal_nms,
        )
        boxes = [p.boxes for p in proposals]
        output = self.boxes(features, boxes)
        counts = [len(b) for b in boxes]
        decoded = torch.split(self.decoded(output, boxes), counts)
        logits = torch.split(output.class_logits, counts)
        detections = tuple(
            best_detections(
                logits[i],
                decoded[i],
                features.valid[i],
                score_threshold=score_threshold,
                nms=nms,
                max_detections=max_detections,
            )
            for i in range(len(boxes))
        )
        return InstanceOutput(features, detections)

    def features(self, images: Tensor, valid: Sequence[tuple[int, int]] | None = None) -> InstanceFeatures:
        """The dense part: images (N, 3, H, W) to maps."""
        size = (images.shape[2], images.shape[3])
        maps = self.backbone(images)
        num_early = len(maps) - len(PYRAMID_STRIDES)
        levels = OrderedDict((str(i), m) for i, m in enumerate(maps[num_early:]))
        pyramid = tuple(self.pyramid(levels).values())
        fine = (pyramid[0], *maps[:num_early])
        return InstanceFeatures(pyramid, fine, size, tuple(valid) if valid is not None else (size,) * len(images))

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """What `features` gives, as plain tensors: the pyramid, then the other fine maps."""
        features = self.features(images)
        return (*features.pyramid, *features.fine[1:])

    def boxes(self, features: InstanceFeatures, boxes: Sequence[Tensor]) -> BoxOutput:
        """Classes and boxes of regions: (R, 4) of each image, xyxy in pixels of the input."""
        pooled = self.box_pool(features.pyramid, boxes)
        class_logits, deltas = self.box_predictor(self.box_head(pooled))
        return BoxOutput(class_logits.float(), deltas.float())

    def decoded(self, output: BoxOutput, boxes: Sequence[Tensor]) -> Tensor:
        """The boxes (R, C + 1, 4) that `output` tells of regions `boxes`, (R, 4) of each image."""
        decoded: Tensor = self.box_coder.decode(output.deltas, list(boxes))
        # torchvision leaves the shape of no boxes at all as it comes.
        return decoded.reshape(len(output.deltas), output.deltas.shape[1] // 4, 4)

    def render(self, output: InstanceOutput, *, start: int = 28, num_points: int = 784, steps: int = 3) -> list[Tensor]:
        """Mask logits of all detections, of all images, at every stage; see `PointRendMaskHead.render`."""
        features, detections = output.features, output.detections
        return self.mask_head.render(
            features.fine,
            [d.boxes for d in detections],
            torch.cat([d.classes for d in detections]),
            features.size,
            start=start,
            num_points=num_points,
            steps=steps,
        )


def instance_pointrend(
    *,
    num_classes: int,
    backbone: str = "resnet50",
    fpn_channels: int = 256,
    anchor_sizes: Sequence[Sequence[float]] = ((32,), (64,), (128,), (256,), (512,)),
    anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    box_hidden: int = 1024,
    box_canonical_size: float = 224,
    coarse_channels: int = 256,
    coarse_hidden: int = 1024,
    point_hidden: int = 256,
    point_depth: int = 3,
    coarse_every_layer: bool = True,
    point_normalize: bool = False,
    fine_strides: Sequence[int] = (4,),
    padding: Padding = "zeros",
    stride_in_1x1: bool = False,
    class_agnostic: bool = False,
) -> InstancePointRend:
    """An `InstancePointRend` with new weights; the defaults are the published settings.

    Args:
        num_classes: C, without the background.
        anchor_sizes: in pixels of the input, of each of the five levels.
        anchor_ratios: height to width.
        box_canonical_size: see `LevelRoIAlign`.
        fine_strides: (4,) reads P2 alone; (4, 2) also the backbone's own map at stride 2, for finer boundaries.
        stride_in_1x1: see `Backbone`.
        class_agnostic: one mask for all classes.

    Raises:
        ValueError: a number is out of its range, or the backbone will not do (see `Backbone`).
    """
    if 4 not in fine_strides or not set(fine_strides) <= {2, 4}:
        raise ValueError(f"fine_strides must be (4,) or (4, 2), got {tuple(fine_strides)}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    early = tuple(s for s in sorted(fine_strides) if s < PYRAMID_STRIDES[0])
    maps = Backbone(backbone, strides=early + PYRAMID_STRIDES, stride_in_1x1=stride_in_1x1)
    num_masks = 1 if class_agnostic else num_classes
    return InstancePointRend(
        backbone=maps,
        pyramid=FeaturePyramidNetwork(list(maps.channels[len(early) :]), fpn_channels, extra_blocks=LastLevelMaxPool()),
        rpn=_rpn(fpn_channels, anchor_sizes, anchor_ratios),
        box_pool=LevelRoIAlign(output_size=BOX_SIDE, strides=PYRAMID_STRIDES, canonical_size=box_canonical_size),
        box_head=TwoMLPHead(fpn_channels * BOX_SIDE**2, box_hidden),  # type: ignore[no-untyped-call]
        box_predictor=FastRCNNPredictor(box_hidden, num_classes + 1),  # type: ignore[no-untyped-call]
        box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)),
        mask_head=PointRendMaskHead(
            coarse_head=CoarseMaskHead(
                in_channels=fpn_channels, num_classes=num_masks, channels=coarse_channels, hidden=coarse_hidden
            ),
            point_head=PointHead(
                in_channels=fpn_channels + sum(maps.channels[: len(early)]),
                num_classes=num_masks,
                hidden=point_hidden,
                depth=point_depth,
                coarse_every_layer=coarse_every_layer,
                normalize=point_normalize,
            ),
            padding=padding,
        ),
    )


def _rpn(channels: int, sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> ProposalNetwork:
    if len({len(s) for s in sizes}) > 1:
        raise ValueError(f"anchor_sizes must have as many sizes for each level, got {[len(s) for s in sizes]}")
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
