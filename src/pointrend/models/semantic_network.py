"""What every network for semantic segmentation is to those that train, render and draw it: the host protocol.

Shapes: N images, C classes, P points, H W the input's size, h w the coarse grid's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointrend.core import (
    LABEL_SUBDIVISION,
    Subdivision,
    SubdivisionStep,
    sample_points,
    subdivision_steps,
    uncertainty,
)
from pointrend.core.points import Padding
from pointrend.core.subdivision import PointPredictor
from pointrend.models.point_evaluator import FastPoints
from pointrend.models.point_head import PointHead


@dataclass(frozen=True)
class SemanticOutput:
    """What the encoder computes, which points are read from."""

    coarse: Tensor
    """(N, C, h, w) coarse logits at stride 4."""
    fine: tuple[Tensor, ...]
    """Feature maps (N, D, ., .) that the point head reads, concatenated; P2 in the published models."""
    size: tuple[int, int] | None = None
    """(H, W) of the input, which grids with aligned corners need."""
    auxiliary: tuple[Tensor, ...] = ()
    """In training, logits (N, C, ., .) of heads that are there for training alone."""


class SemanticNetwork(nn.Module):
    """A network that gives coarse logits and fine maps, with a point head on them (paper, section 4.2).

    A network of another kind defines `maps`, and `start`, `whole`, `upsampled` and `coarse_at` if its coarse grid does
    not have half-pixel centres.
    """

    encoder_parts: ClassVar[tuple[str, ...]] = ()
    """The names of the modules that `maps` is computed by; see `with_encoder`."""
    input_channels: ClassVar[int] = 3
    """Of the images that `maps` takes."""
    backbone: nn.Module
    """What `optim.backbone_lr` and freezing are for."""
    point_head: PointHead
    independent: bool = False
    """Whether classes do not exclude each other, so that a pixel has several of them or none; see `core.labels_of`."""
    multiple: int = 1
    """The sides of images must be multiples of this."""
    padding: Padding
    """How points read the maps, see `sample_points`."""

    @abstractmethod
    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what `forward` does as plain tensors: the coarse logits, then the fine features."""

    def forward(self, images: Tensor) -> SemanticOutput:
        """images (N, 3, H, W), normalised as the model expects -> coarse logits and fine features."""
        coarse, *fine = self.maps(images)
        return SemanticOutput(coarse, tuple(fine), (images.shape[2], images.shape[3]))

    def start(self, output: SemanticOutput) -> Tensor:
        """Return the coarse logits (N, C, h, w) that rendering starts from; their pixels have half-pixel centres."""
        return output.coarse

    def whole(self, output: SemanticOutput) -> Tensor:
        """Return coarse logits (N, C, ., .) of any size over the whole input, with half-pixel centres."""
        return output.coarse

    def upsampled(self, output: SemanticOutput, size: tuple[int, int]) -> Tensor:
        """Return coarse logits (N, C, H, W) of the whole input, of `size` (H, W), float32."""
        return F.interpolate(output.coarse.float(), size=size, mode="bilinear", align_corners=False)

    def coarse_at(self, output: SemanticOutput, points: Tensor) -> Tensor:
        """Return coarse logits (N, P, C) at points (N, P, 2) of the input."""
        return sample_points(output.coarse, points, padding=self.padding)

    def point_logits(self, output: SemanticOutput, points: Tensor) -> Tensor:
        """Return logits (N, P, C) at points (N, P, 2) of the input."""
        fine = torch.cat([sample_points(f, points, padding=self.padding) for f in output.fine], dim=2)
        logits: Tensor = self.point_head(fine, self.coarse_at(output, points))
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
        return subdivision_steps(
            self.start(output),
            lambda points: self.point_logits(output, points),
            subdivision,
            measure=partial(uncertainty, independent=self.independent),
        )

    def render(self, output: SemanticOutput, subdivision: Subdivision = LABEL_SUBDIVISION) -> Tensor:
        """Return logits (N, C, h * 2^steps, w * 2^steps) after adaptive subdivision."""
        logits = self.start(output)
        for step in self.subdivision_steps(output, subdivision):
            logits = step.logits
        return logits
