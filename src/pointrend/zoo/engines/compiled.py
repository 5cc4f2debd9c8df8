"""Networks whose dense part is a function of somebody else.

Shapes: N images, H W the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from pointrend.models import InstancePointRend, SemanticOutput, SemanticPointRend
from pointrend.models.instance import InstanceFeatures

Maps = Callable[[Tensor], Sequence[Tensor]]
"""Images (N, 3, H, W) to maps (N, ., ., .): what `maps` of the networks gives."""
Precision = Literal["f32", "bf16", "int8"]
"""What an engine computes in: bf16 and int8 are faster where the processor has them, and labels change near
boundaries. int8 is calibrated on images before."""
EXAMPLE = (1, 97, 131, 3)
"""The input that is traced: of odd sizes, so that whatever sizes need is done, which even ones would skip."""


class CompiledSemantic(SemanticPointRend):
    """A semantic network whose dense part is compiled."""

    def __init__(self, network: SemanticPointRend, maps: Maps) -> None:
        nn.Module.__init__(self)
        self.point_head = network.point_head
        self.padding = network.padding
        self._maps = maps

    def forward(self, images: Tensor) -> SemanticOutput:
        """See `SemanticPointRend.forward`."""
        coarse, *fine = self._maps(images)
        return SemanticOutput(coarse=coarse, fine=tuple(fine))


class CompiledInstance(InstancePointRend):
    """An instance network whose backbone and pyramid are compiled."""

    def __init__(self, network: InstancePointRend, maps: Maps) -> None:
        nn.Module.__init__(self)
        self.rpn, self.box_pool, self.box_head = network.rpn, network.box_pool, network.box_head
        self.box_predictor, self.box_coder = network.box_predictor, network.box_coder
        self.mask_head = network.mask_head
        self._maps = maps

    def features(self, images: Tensor, valid: Sequence[tuple[int, int]] | None = None) -> InstanceFeatures:
        """See `InstancePointRend.features`."""
        size = (images.shape[2], images.shape[3])
        maps = tuple(self._maps(images))
        pyramid, early = maps[:5], maps[5:]
        return InstanceFeatures(
            pyramid, (pyramid[0], *early), size, tuple(valid) if valid is not None else (size,) * len(images)
        )


class ChannelsLastMaps(nn.Module):
    """The dense part as it is given to engines: channels last, in and out, as rendering reads it."""

    def __init__(self, network: SemanticPointRend | InstancePointRend) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (N, H, W, 3) -> maps (N, ., ., D)."""
        return tuple(m.permute(0, 2, 3, 1) for m in self.network.maps(images.permute(0, 3, 1, 2)))
