"""Semantic PointRend: backbone, pyramid, coarse head and point head, joined.

Shapes: N images, C classes, P points, H W the input's size, h w the coarse grid's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from pointrend.core import SubdivisionStep, sample_points, subdivision_steps
from pointrend.core.points import Padding
from pointrend.core.subdivision import PointPredictor
from pointrend.models.backbones import PYRAMID_STRIDES, Backbone
from pointrend.models.coarse import Norm, SemanticFPNHead
from pointrend.models.fast_points import FastPoints
from pointrend.models.point_head import PointHead


@dataclass(frozen=True)
class SemanticOutput:
    """What the dense part computes once, and the points read from."""

    coarse: Tensor
    """(N, C, h, w) coarse logits at stride 4."""
    fine: tuple[Tensor, ...]
    """Feature maps (N, D, ., .) that the point head reads, concatenated; P2 in the published models."""


class SemanticPointRend(nn.Module):
    """PointRend for semantic segmentation (paper, section 4.2).

    Args:
        backbone: gives maps at `backbone.strides`, of which the last four are 4, 8, 16, 32.
        pyramid: torchvision's FPN over these four.
        coarse_head: coarse logits from the pyramid.
        point_head: logits at points.
        padding: how points read the maps, see `sample_points`.

    `semantic_pointrend` builds one from numbers.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        pyramid: FeaturePyramidNetwork,
        coarse_head: SemanticFPNHead,
        point_head: PointHead,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.coarse_head = coarse_head
        self.point_head = point_head
        self.padding: Padding = padding

    def forward(self, images: Tensor) -> SemanticOutput:
        """images (N, 3, H, W), normalised as the model expects -> coarse logits and fine features."""
        maps = self.backbone(images)
        num_early = len(maps) - len(PYRAMID_STRIDES)
        levels = OrderedDict((str(i), m) for i, m in enumerate(maps[num_early:]))
        pyramid = list(self.pyramid(levels).values())
        return SemanticOutput(coarse=self.coarse_head(pyramid), fine=(pyramid[0], *maps[:num_early]))

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """What `forward` gives, as plain tensors: the coarse logits, then the fine features."""
        output = self(images)
        return (output.coarse, *output.fine)

    def point_logits(self, output: SemanticOutput, points: Tensor) -> Tensor:
        """Logits (N, P, C) at points (N, P, 2) of the input."""
        fine = torch.cat([sample_points(f, points, padding=self.padding) for f in output.fine], dim=2)
        coarse = sample_points(output.coarse, points, padding=self.padding)
        logits: Tensor = self.point_head(fine, coarse)
        return logits

    def point_predictor(self, output: SemanticOutput) -> PointPredictor:
        """`point_logits` of this output for rendering: without gradients, in evaluation mode, and faster."""
        if type(self.point_head) is not PointHead:  # somebody's own, of which nothing is known
            return lambda points: self.point_logits(output, points)
        return FastPoints(self.point_head, output.fine, output.coarse, padding=self.padding)

    def subdivision_steps(
        self, output: SemanticOutput, *, num_points: int = 8196, steps: int = 2
    ) -> Iterator[SubdivisionStep]:
        """The steps of adaptive subdivision, from the coarse logits on; see `core.subdivision_steps`."""
        return subdivision_steps(
            output.coarse, lambda points: self.point_logits(output, points), num_points=num_points, steps=steps
        )

    def render(self, output: SemanticOutput, *, num_points: int = 8196, steps: int = 2) -> Tensor:
        """Logits (N, C, h * 2^steps, w * 2^steps) after adaptive subdivision."""
        logits = output.coarse
        for step in self.subdivision_steps(output, num_points=num_points, steps=steps):
            logits = step.logits
        return logits


def semantic_pointrend(
    *,
    num_classes: int,
    backbone: str = "resnet50c",
    fpn_channels: int = 256,
    coarse_channels: int = 128,
    coarse_norm: Norm = "batch",
    point_hidden: int = 256,
    point_depth: int = 3,
    coarse_every_layer: bool = True,
    point_normalize: bool = False,
    fine_strides: Sequence[int] = (4,),
    padding: Padding = "zeros",
    stride_in_1x1: bool = False,
) -> SemanticPointRend:
    """A `SemanticPointRend` with new weights; the defaults are the published settings.

    Args:
        num_classes: C; 1 makes a binary model with a single logit.
        fine_strides: (4,) reads P2 alone; (4, 2) also the backbone's own map at stride 2, for finer boundaries.
        stride_in_1x1: see `Backbone`.

    Raises:
        ValueError: a number is out of its range, or the backbone will not do (see `Backbone`).
    """
    if 4 not in fine_strides or not set(fine_strides) <= {2, 4}:
        raise ValueError(f"fine_strides must be (4,) or (4, 2), got {tuple(fine_strides)}")
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1 (binary, a single logit), got {num_classes}")
    early = tuple(s for s in sorted(fine_strides) if s < PYRAMID_STRIDES[0])
    maps = Backbone(backbone, strides=early + PYRAMID_STRIDES, stride_in_1x1=stride_in_1x1)
    return SemanticPointRend(
        backbone=maps,
        pyramid=FeaturePyramidNetwork(list(maps.channels[len(early) :]), fpn_channels),
        coarse_head=SemanticFPNHead(
            in_channels=fpn_channels, channels=coarse_channels, num_classes=num_classes, norm=coarse_norm
        ),
        point_head=PointHead(
            in_channels=fpn_channels + sum(maps.channels[: len(early)]),
            num_classes=num_classes,
            hidden=point_hidden,
            depth=point_depth,
            coarse_every_layer=coarse_every_layer,
            normalize=point_normalize,
        ),
        padding=padding,
    )
