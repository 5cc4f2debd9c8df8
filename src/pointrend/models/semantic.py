"""Semantic PointRend: backbone, pyramid, coarse head and point head, joined.

Shapes: N images, C classes, P points, H W the input's size, h w the coarse grid's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from pointrend.core import LABEL_SUBDIVISION, Subdivision, SubdivisionStep, sample_points, subdivision_steps
from pointrend.core.points import Padding
from pointrend.core.subdivision import PointPredictor
from pointrend.models.backbones import PYRAMID_STRIDES, Backbone, backbone_and_pyramid, pyramid_maps
from pointrend.models.coarse import SemanticFPNHead
from pointrend.models.point_evaluator import FastPoints
from pointrend.models.point_head import PointHead
from pointrend.models.settings import SemanticArchitecture


@dataclass(frozen=True)
class SemanticOutput:
    """What the encoder computes, which points are read from."""

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
        levels: of the pyramid that points read, 0 for stride 4; the backbone's finer maps are read too.

    `semantic_pointrend` builds one from numbers.
    """

    encoder_parts = ("backbone", "pyramid", "coarse_head")
    """What `maps` is computed by; see `with_encoder`."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        pyramid: FeaturePyramidNetwork,
        coarse_head: SemanticFPNHead,
        point_head: PointHead,
        padding: Padding = "zeros",
        levels: tuple[int, ...] = (0,),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.coarse_head = coarse_head
        self.point_head = point_head
        self.padding: Padding = padding
        self.levels = levels

    def forward(self, images: Tensor) -> SemanticOutput:
        """images (N, 3, H, W), normalised as the model expects -> coarse logits and fine features."""
        coarse, *fine = self.maps(images)
        return SemanticOutput(coarse, tuple(fine))

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what `forward` does as plain tensors: the coarse logits, then the fine features."""
        pyramid, early = pyramid_maps(self.backbone, self.pyramid, images)
        return (self.coarse_head(pyramid), *(pyramid[level] for level in self.levels), *early)

    def point_logits(self, output: SemanticOutput, points: Tensor) -> Tensor:
        """Return logits (N, P, C) at points (N, P, 2) of the input."""
        fine = torch.cat([sample_points(f, points, padding=self.padding) for f in output.fine], dim=2)
        coarse = sample_points(output.coarse, points, padding=self.padding)
        logits: Tensor = self.point_head(fine, coarse)
        return logits

    def point_predictor(self, output: SemanticOutput) -> PointPredictor:
        """Return a faster `point_logits` of this output for rendering, without gradients and in evaluation mode."""
        if type(self.point_head) is not PointHead:  # a user's own head, which FastPoints does not know
            return lambda points: self.point_logits(output, points)
        return FastPoints(self.point_head, output.fine, output.coarse, padding=self.padding)

    def subdivision_steps(
        self, output: SemanticOutput, subdivision: Subdivision = LABEL_SUBDIVISION
    ) -> Iterator[SubdivisionStep]:
        """Yield the steps of adaptive subdivision, from the coarse logits on; see `core.subdivision_steps`."""
        return subdivision_steps(output.coarse, lambda points: self.point_logits(output, points), subdivision)

    def render(self, output: SemanticOutput, subdivision: Subdivision = LABEL_SUBDIVISION) -> Tensor:
        """Return logits (N, C, h * 2^steps, w * 2^steps) after adaptive subdivision."""
        logits = output.coarse
        for step in self.subdivision_steps(output, subdivision):
            logits = step.logits
        return logits


def semantic_pointrend(
    num_classes: int, architecture: SemanticArchitecture = SemanticArchitecture()
) -> SemanticPointRend:
    """Build a `SemanticPointRend` with new weights; the defaults are the published settings.

    Args:
        num_classes: C; 1 makes a binary model with a single logit.
        architecture: all other numbers.

    Raises:
        ValueError: `num_classes` is out of its range, or the backbone will not do (see `Backbone`).
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1 (binary, a single logit), got {num_classes}")
    backbone, pyramid, fine_channels = backbone_and_pyramid(architecture)
    return SemanticPointRend(
        backbone=backbone,
        pyramid=pyramid,
        coarse_head=SemanticFPNHead(
            in_channels=architecture.fpn_channels,
            channels=architecture.coarse_channels,
            num_classes=num_classes,
            norm=architecture.coarse_norm,
        ),
        point_head=PointHead(
            in_channels=fine_channels,
            num_classes=num_classes,
            architecture=architecture.point,
        ),
        padding=architecture.point.padding,
        levels=tuple(PYRAMID_STRIDES.index(s) for s in architecture.fine_strides if s in PYRAMID_STRIDES),
    )
