"""A feature pyramid whose coarsest map sees far around each of its pixels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

KERNEL = 9
"""The side of a context block's kernels, 288 pixels of the image at stride 32."""


class ContextPyramid(FeaturePyramidNetwork):
    """torchvision's FPN, which first passes the backbone's coarsest map through context blocks.

    Args:
        in_channels: of the backbone's maps.
        out_channels: of the levels, and inside of the blocks.
        blocks: how many, one after the other.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, blocks: int) -> None:
        super().__init__(list(in_channels), out_channels)
        self.context = nn.Sequential(*(ContextBlock(in_channels[-1], out_channels) for _ in range(blocks)))

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps (N, C, h, w) by name, the coarsest last -> levels (N, D, h, w) of the same names."""
        *finer, (name, last) = x.items()
        levels: dict[str, Tensor] = super().forward(OrderedDict([*finer, (name, self.context(last))]))
        return levels


class ContextBlock(nn.Module):
    """Adds to each pixel what a large depthwise kernel sees around it; a new block adds nothing.

    Args:
        channels: of the map.
        hidden: channels that the kernel works on.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(channels)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, KERNEL, padding=KERNEL // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
            last,
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        added: Tensor = self.layers(features)
        return features + added
