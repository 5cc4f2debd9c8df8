"""PointRend on a segmentation network that is not ours.

Shapes: N images, C classes, P points, H W the input's size, h w the coarse grid's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointrend.core.subdivision import PointPredictor
from pointrend.errors import PointRendError
from pointrend.models.hosts.capture import captured
from pointrend.models.hosts.families import OWN, build_host, family_named
from pointrend.models.hosts.geometry import read_coarse, start_grid, upsampled
from pointrend.models.hosts.outputs import logits_of
from pointrend.models.hosts.probe import Call
from pointrend.models.hosts.stem import STEM_CHANNELS, Stem
from pointrend.models.point_head import PointHead
from pointrend.models.semantic_network import SemanticNetwork, SemanticOutput
from pointrend.models.settings import HostLayout, PointArchitecture, SemanticArchitecture


class HostedPointRend(SemanticNetwork):
    """A host, and the point head on its coarse logits and fine maps; `attach` builds one.

    Args:
        host: gives logits of C classes; any module, in any form that `logits_of` reads.
        layout: where its coarse logits and fine maps are.
        num_classes: C.
        point: of the point head.
        call: runs the host on images (N, 3, H, W).
    """

    encoder_parts = ("backbone", "stem", "coarse_head")

    def __init__(
        self, host: nn.Module, layout: HostLayout, num_classes: int, point: PointArchitecture, call: Call
    ) -> None:
        super().__init__()
        self.backbone = host
        self.layout = layout
        self.multiple, self.independent = layout.multiple, layout.multi_label
        self.stem = Stem() if layout.stem else None
        self.coarse_head = nn.Conv2d(layout.coarse_channels, num_classes, 1) if layout.coarse_channels else None
        channels = sum(layout.fine_channels) + (sum(STEM_CHANNELS) if layout.stem else 0)
        self.point_head = PointHead(in_channels=channels, num_classes=num_classes, architecture=point)
        self.point_head.start_from_coarse()
        self.padding = point.padding
        self.num_classes = num_classes
        self._call = call
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts, but leave a frozen host in evaluation mode, so that its norms stay as they are."""
        super().train(mode)
        if self.layout.frozen:
            self.backbone.eval().requires_grad_(False)
        return self

    def forward(self, images: Tensor) -> SemanticOutput:
        """Return what points are read from; in training also the logits of the host's auxiliary heads."""
        paths = self.layout.auxiliary if self.training and not self.layout.frozen else ()
        if not paths:  # in evaluation there may be an engine in the place of the host
            return super().forward(images)
        with captured(self.backbone, paths) as found:
            output = super().forward(images)
        return replace(output, auxiliary=tuple(found[path] for path in paths))

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the coarse logits on the host's own grid, then the fine maps: the host's, and those of the stem."""
        layout = self.layout
        paths = {*layout.fine, *([layout.coarse] if layout.coarse else [])}
        with (
            torch.set_grad_enabled(torch.is_grad_enabled() and not layout.frozen),
            captured(self.backbone, paths) as found,
        ):
            output = self._call(self.backbone, stretched(images, layout.size))
        coarse = found[layout.coarse] if layout.coarse else pooled(output, layout.pool, self.num_classes)
        if self.coarse_head is not None:
            coarse = self.coarse_head(coarse)
        elif coarse.shape[1] != self.num_classes:
            raise PointRendError(f"the host gave logits of {coarse.shape[1]} classes, expected {self.num_classes}")
        if layout.probabilities:
            coarse = _logits_of_probabilities(coarse, independent=self.independent)
        fine = [found[path] for path in layout.fine]
        return (coarse, *fine, *(self.stem(images) if self.stem is not None else ()))

    def start(self, output: SemanticOutput) -> Tensor:
        """Return coarse logits (N, C, h, w) with half-pixel centres, which rendering starts from."""
        return start_grid(output.coarse, _size(output), self.layout.geometry)

    def whole(self, output: SemanticOutput) -> Tensor:
        """Return coarse logits with half-pixel centres over the whole input, upsampled as the host does it."""
        if self.layout.geometry == "centers":
            return output.coarse
        return upsampled(output.coarse, _size(output), self.layout.geometry)

    def upsampled(self, output: SemanticOutput, size: tuple[int, int]) -> Tensor:
        """Return coarse logits (N, C, H, W) of the whole input at its own size."""
        return upsampled(output.coarse.float(), size, self.layout.geometry)

    def coarse_at(self, output: SemanticOutput, points: Tensor) -> Tensor:
        """Return coarse logits (N, P, C) at points (N, P, 2) of the input."""
        return read_coarse(output.coarse, points, _size(output), self.layout.geometry, padding=self.padding)

    def point_predictor(self, output: SemanticOutput) -> PointPredictor:
        """Return what predicts at points: a faster `point_logits` where the coarse grid has half-pixel centres."""
        if self.layout.geometry == "centers":
            return super().point_predictor(output)
        return lambda points: self.point_logits(output, points)


def hosted_pointrend(num_classes: int, architecture: SemanticArchitecture) -> HostedPointRend:
    """Build the network of an architecture with a host, with new weights.

    Raises:
        PointRendError: there is no such host, or it is one that only its user can build.
    """
    layout = architecture.host
    assert layout.family is not None
    if layout.family == OWN:
        raise PointRendError("the model is on a network of its user's own: give it, load_model(path, host=network)")
    host = build_host(layout.family, layout.name, num_classes, layout.arguments)
    return HostedPointRend(host, layout, num_classes, architecture.point, family_named(layout.family).call)


def stretched(images: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Return images (N, 3, H, W) of a size (H, W); None leaves them."""
    if size is None or size == tuple(images.shape[2:]):
        return images
    return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def pooled(output: Any, pool: int, num_classes: int | None) -> Tensor:
    """Return the logits in a host's output, averaged over squares of `pool` pixels a side."""
    logits = logits_of(output, num_classes)
    return logits if pool == 1 else F.avg_pool2d(logits, pool, ceil_mode=True, count_include_pad=False)


def _size(output: SemanticOutput) -> tuple[int, int]:
    assert output.size is not None
    return output.size


def _logits_of_probabilities(probabilities: Tensor, *, independent: bool) -> Tensor:
    """Return logits whose softmax, or sigmoid for one or independent classes, are the probabilities (N, C, h, w)."""
    floor = torch.finfo(torch.float32).tiny
    logits = probabilities.float().clamp(min=floor).log()
    if probabilities.shape[1] > 1 and not independent:
        return logits
    return logits - (1 - probabilities.float()).clamp(min=floor).log()
