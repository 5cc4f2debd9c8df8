"""A host whose fine maps come from a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

MOST = 8
"""Maps of a function."""


class WithMaps(nn.Module):
    """A host, and a function that gives fine maps of the same images; a map is found as `maps.0`, `maps.1`, ...

    Args:
        host: gives logits of images.
        function: gives maps (N, D, h, w) of images (N, 3, H, W), at most 8. Parameters are trained if it is a module.
    """

    def __init__(self, host: nn.Module, function: Callable[[Tensor], Sequence[Tensor]]) -> None:
        super().__init__()
        self.host = host
        self.function = function
        self.maps = nn.ModuleList(nn.Identity() for _ in range(MOST))

    def forward(self, images: Tensor) -> Any:
        """Return the host's output, after giving the maps."""
        for module, value in zip(self.maps, self.function(images), strict=False):
            module(value)
        return self.host(images)
