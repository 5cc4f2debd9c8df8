"""The detector under the masks: torchvision's detection parts, with the differences that published weights need.

Shapes: N images, R regions, C classes, A anchors of a cell, h w a level's grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import ops
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from pointrend.models.settings import Detection
from pointrend.processes import mean_over_processes

BoxTargets = dict[str, Tensor]
"""torchvision's target of one image: "boxes" (R, 4), "labels" (R,) counted from 1."""


class RpnOutput(NamedTuple):
    """The outputs of the RPN's head for every anchor, level by level, float32."""

    objectness: list[Tensor]
    """(N, A, h, w) logits of each level."""
    deltas: list[Tensor]
    """(N, 4 * A, h, w) of each level."""


class Proposals(NamedTuple):
    """The regions of one image that may hold an object, best first."""

    boxes: Tensor
    """(R, 4), xyxy in pixels of the input."""
    logits: Tensor
    """(R,), objectness."""


class Detections(NamedTuple):
    """The objects of one image, best first."""

    boxes: Tensor
    """(R, 4), xyxy in pixels of the input."""
    scores: Tensor
    """(R,), probabilities."""
    classes: Tensor
    """(R,), int64, 0 to C - 1."""
    limited: bool = False
    """Whether there were more objects than the maximum number of detections."""


class Anchors(AnchorGenerator):
    """Anchors of known strides that are not rounded to whole pixels.

    torchvision's generator rounds them, and takes the strides from sizes, which is wrong for a level whose stride does
    not divide the input.

    Args:
        sizes: of each level in pixels, one or more.
        aspect_ratios: height to width, the same for all levels.
        strides: of each level.
    """

    def __init__(
        self, *, sizes: Sequence[Sequence[float]], aspect_ratios: Sequence[float], strides: Sequence[int]
    ) -> None:
        if len(sizes) != len(strides):
            raise ValueError(f"expected anchor sizes for {len(strides)} levels, got {len(sizes)}")
        super().__init__(tuple(map(tuple, sizes)), (tuple(aspect_ratios),) * len(sizes))  # type: ignore[no-untyped-call]
        self.strides = tuple(strides)

    def generate_anchors(
        self,
        scales: list[int],
        aspect_ratios: list[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device = torch.device("cpu"),  # noqa: B008  # torchvision's signature
    ) -> Tensor:
        """Return boxes (A, 4) about the origin: size by size for each ratio."""
        sizes = torch.as_tensor(scales, dtype=dtype, device=device)
        heights_per_width = torch.as_tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        widths = (sizes / heights_per_width[:, None]).flatten()
        heights = (sizes * heights_per_width[:, None]).flatten()
        return torch.stack((-widths, -heights, widths, heights), dim=1) / 2

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return boxes (sum of h * w * A, 4) of each image: the same for all of a batch."""
        device = feature_maps[0].device
        grids = [list(level.shape[-2:]) for level in feature_maps]
        strides = [[torch.tensor(s, device=device)] * 2 for s in self.strides]
        self.set_cell_anchors(torch.float32, device)  # half precision cannot tell 2048 columns apart
        boxes = torch.cat(self.grid_anchors(grids, strides))
        return [boxes] * len(image_list.image_sizes)


class LevelRoIAlign(nn.Module):
    """Reads each box by aligned RoIAlign on the pyramid level that fits its size.

    Args:
        output_size: cells of a side.
        strides: of the levels.
        canonical_size, canonical_level: a box of this size, in pixels, is read on this level (4 is stride 16).
    """

    def __init__(
        self, *, output_size: int, strides: Sequence[int], canonical_size: float = 224, canonical_level: int = 4
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.strides = tuple(strides)
        self.canonical_size = canonical_size
        self.canonical_level = canonical_level
        self.first_level = self.strides[0].bit_length() - 1

    def forward(self, pyramid: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Levels (N, D, h, w) and boxes (R, 4) of each image -> (all R, D, output_size, output_size), float32."""
        rois = ops._utils.convert_boxes_to_roi_format(list(boxes))
        sides = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).clamp(min=0).sqrt()
        wanted = torch.floor(self.canonical_level + torch.log2(sides / self.canonical_size + 1e-8))
        level = (wanted.long() - self.first_level).clamp(0, len(self.strides) - 1)
        side, channels = self.output_size, pyramid[0].shape[1]
        pooled = rois.new_zeros((len(rois), channels, side, side))
        for index, stride in enumerate(self.strides):
            chosen = torch.nonzero(level == index)[:, 0]
            features = pyramid[index].float()
            part = ops.roi_align(features, rois[chosen], side, 1 / stride, sampling_ratio=0, aligned=True)
            pooled = pooled.index_copy(0, chosen, part)
        return pooled


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's RPN, which ranks by logits.

    torchvision ranks by sigmoid: sure anchors become ties at 1, and their order is lost. A score threshold is not
    used: published models have none.
    """

    def raw(self, pyramid: Sequence[Tensor]) -> RpnOutput:
        """Run the head on every level."""
        objectness, deltas = self.head(list(pyramid))
        return RpnOutput([o.float() for o in objectness], [d.float() for d in deltas])

    @torch.no_grad()
    def proposals(
        self, raw: RpnOutput, sizes: Sequence[tuple[int, int]], *, per_level: int, total: int, nms: float = 0.7
    ) -> list[Proposals]:
        """Return the proposals of each image.

        Args:
            raw: from `raw`.
            sizes: (h, w) of each image without padding; boxes are clipped to it.
            per_level: how many of the best of each level go into non-maximum suppression.
            total: the maximum number that come out of it.
            nms: IoU above which the worse of two boxes of a level is dropped.
        """
        anchors = self._anchors(raw, sizes)
        _, deltas = concat_box_prediction_layers(list(raw.objectness), list(raw.deltas))
        boxes = self.box_coder.decode(deltas, anchors).view(len(sizes), -1, 4)
        logits = [o.permute(0, 2, 3, 1).flatten(1) for o in raw.objectness]
        counts = [level.shape[1] for level in logits]
        return [
            _best(
                torch.split(boxes[i], counts),
                [level[i] for level in logits],
                size,
                per_level=per_level,
                nms=nms,
                total=total,
            )
            for i, size in enumerate(sizes)
        ]

    def losses(
        self,
        raw: RpnOutput,
        targets: list[BoxTargets],
        sizes: Sequence[tuple[int, int]],
        *,
        smooth_l1_beta: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Return the losses of objectness and boxes, as detectron2 computes them.

        Both are sums over the anchors that are drawn, divided by the number to be drawn: `batch_size_per_image` of each
        image, also where an image has fewer.

        Args:
            raw: from `raw`.
            targets: of each image.
            sizes: (h, w) of each image without padding.
            smooth_l1_beta: see `box_losses`.
        """
        anchors = self._anchors(raw, sizes)
        objectness, deltas = concat_box_prediction_layers(list(raw.objectness), list(raw.deltas))
        labels, matched = self.assign_targets_to_anchors(anchors, targets)
        wanted = torch.cat(list(self.box_coder.encode(matched, anchors)))
        positive, negative = (torch.cat(drawn).nonzero()[:, 0] for drawn in self.fg_bg_sampler(labels))
        drawn = torch.cat((positive, negative))
        objectness_loss = F.binary_cross_entropy_with_logits(
            objectness.flatten()[drawn], torch.cat(labels)[drawn], reduction="sum"
        )
        box_loss = F.smooth_l1_loss(deltas[positive], wanted[positive], beta=smooth_l1_beta, reduction="sum")
        count = self.fg_bg_sampler.batch_size_per_image * len(sizes)
        return objectness_loss / count, box_loss / count

    def _anchors(self, raw: RpnOutput, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        anchors: list[Tensor] = self.anchor_generator(ImageList(raw.objectness[0], list(sizes)), raw.objectness)
        return anchors


def _best(
    boxes: Sequence[Tensor], logits: Sequence[Tensor], size: tuple[int, int], *, per_level: int, total: int, nms: float
) -> Proposals:
    """Return the proposals of one image, from boxes (R, 4) and logits (R,) of each level."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for level, (level_boxes, level_logits) in enumerate(zip(boxes, logits, strict=True)):
        best, index = level_logits.topk(min(per_level, len(level_logits)))
        clipped = ops.clip_boxes_to_image(level_boxes[index], size)
        keep = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1]) & best.isfinite()
        found.append((clipped[keep], best[keep], torch.full_like(best[keep], level)))
    all_boxes, all_logits, levels = (torch.cat(parts) for parts in zip(*found, strict=True))
    kept = ops.batched_nms(all_boxes, all_logits, levels, nms)[:total]
    return Proposals(all_boxes[kept], all_logits[kept])


def box_losses(
    class_logits: Tensor,
    deltas: Tensor,
    labels: Sequence[Tensor],
    regression: Sequence[Tensor],
    *,
    smooth_l1_beta: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return the losses of the box head's classes and boxes, as detectron2 computes them; 0 for no regions.

    The loss of boxes is a sum over the regions with an object, divided by the number of all regions.

    Args:
        class_logits: (R, C + 1), the background first.
        deltas: (R, 4 * (C + 1)), for each class; those of a region's own class count.
        labels: (R,) of each image, 0 for background.
        regression: (R, 4) of each image, the deltas wanted.
        smooth_l1_beta: differences below it count by their square, as `torch.nn.SmoothL1Loss` says; 0 is L1, which
            detectron2 publishes. torchvision has 1/9.
    """
    label = torch.cat(list(labels))
    count = mean_over_processes(torch.tensor(float(len(label)), device=label.device)).clamp(min=1)
    class_loss = F.cross_entropy(class_logits, label, reduction="sum") / count
    positive = torch.nonzero(label > 0)[:, 0]
    own = deltas.view(len(deltas), class_logits.shape[1], 4)[positive, label[positive]]
    wanted = torch.cat(list(regression))[positive]
    return class_loss, F.smooth_l1_loss(own, wanted, beta=smooth_l1_beta, reduction="sum") / count


@torch.no_grad()
def best_detections(
    class_logits: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    detection: Detection = Detection(),
) -> Detections:
    """Return the detections of one image, from the box head's output for its proposals.

    Args:
        class_logits: (R, C + 1), the background first.
        boxes: (R, C + 1, 4), decoded for each class, xyxy in pixels of the input.
        size: (h, w) of the image without padding, to which boxes are clipped.
        detection: its threshold, its IoU of non-maximum suppression and its maximum number of detections.
    """
    scores = class_logits.softmax(dim=1)[:, 1:]
    region, found = torch.nonzero((scores > detection.score_threshold) & scores.isfinite(), as_tuple=True)
    candidates = ops.clip_boxes_to_image(boxes[region, found + 1], size)
    best = scores[region, found]
    every = ops.batched_nms(candidates, best, found, detection.nms)
    kept = every[: detection.max_detections]
    return Detections(candidates[kept], best[kept], found[kept], limited=len(kept) < len(every))
