"""Windows along outlines, and how what is predicted in them becomes one map.

Shapes: K windows, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core.mask_input import box_sum, outline_band
from pointrend.data.masks.distances import distance


@dataclass(frozen=True)
class Grid:
    """Windows of one size whose inner parts, without margins, tile an image."""

    size: tuple[int, int]
    """(H, W) of the image."""
    window: int
    margin: int

    @property
    def inner(self) -> int:
        """Return the side of a window without its margins."""
        return self.window - 2 * self.margin

    @property
    def padded(self) -> tuple[int, int]:
        """Return the (H, W) that images are padded to, at the right and bottom: at least one window."""
        return max(self.size[0], self.window), max(self.size[1], self.window)

    def corners(self, wanted: Tensor) -> list[tuple[int, int]]:
        """Return the corners (row, column) of the windows whose inner parts hold a pixel of `wanted`, bool (H, W).

        Windows that would reach over the image's border are moved inside.
        """
        tiles = F.max_pool2d(wanted[None, None].float(), self.inner, ceil_mode=True)[0, 0]
        height, width = self.padded
        return [
            (
                min(max(0, row * self.inner - self.margin), height - self.window),
                min(max(0, column * self.inner - self.margin), width - self.window),
            )
            for row, column in torch.nonzero(tiles).tolist()
        ]

    def ramp(self) -> Tensor:
        """Return the weights (window, window) of a window's pixels: 1 inside, falling to the border over the margin."""
        distance = torch.arange(self.window, dtype=torch.float32) + 0.5
        line = (torch.minimum(distance, distance.flip(0)) / max(1, self.margin)).clamp(max=1)
        return line[:, None] * line[None, :]


def near_outline(mask: Tensor, extent: int) -> Tensor:
    """Find the pixels (H, W) within `extent` pixels of the outline of a mask (H, W), bool."""
    return outline_band(mask[None, None], extent)[0, 0]


def moved_ratio(given: Tensor, changed: Tensor, neighbourhood: int) -> Tensor:
    """Return which ratio of an outline a pass moved, in the neighbourhood of each pixel.

    A pixel of the outline has moved where more than two of the 5x5 pixels about it changed their side: by half a pixel
    or more. A right mask is moved in few places, even if far, a wrong one nearly everywhere, even if little.

    Args:
        given: (H, W) bool, the mask.
        changed: (H, W) bool, the pixels whose side of the mask the pass changed.
        neighbourhood: the side of the square in pixels, odd, in which pixels of the outline are counted.

    Returns:
        float32 (H, W) in [0, 1]; 0 where there is no outline.
    """
    outline = near_outline(given, 1)
    moved = outline & (box_sum(changed, 5) > 2)
    return box_sum(moved, neighbourhood) / box_sum(outline, neighbourhood).clamp(min=1)


def halfway(one: Tensor, other: Tensor) -> Tensor:
    """Return the mask (H, W) float32 whose outline lies halfway between those of two masks (H, W) bool.

    Its edge is soft over a pixel.
    """
    between = (distance(one.numpy()) + distance(other.numpy())) / 2
    return torch.from_numpy(0.5 - between).clamp(0, 1)
