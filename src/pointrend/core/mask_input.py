"""Masks as input of a network that refines them, beside the image.

Shapes: N images, P points, H W pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BLUR = 5.0
"""The standard deviation of the blurred mask in pixels."""
MASK_CHANNELS = 3


def mask_channels(current: Tensor, given: Tensor, *, sigma: float = BLUR) -> Tensor:
    """Return the channels (N, 3, H, W) that a refiner reads beside the image: current mask, its blur, given mask.

    Args:
        current: (N, 1, H, W) in [0, 1], the mask to refine: the given one, or the result of the pass before.
        given: (N, 1, H, W) in [0, 1], the mask that the first pass was given.
        sigma: of the Gaussian blur, in pixels, which tells how far the outline is.

    Returns:
        As many channels, with values in [-1, 1].
    """
    reach = math.ceil(2.5 * sigma)
    offsets = torch.arange(-reach, reach + 1, device=current.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(current.dtype)
    blurred = F.pad(current, (reach,) * 4, mode="replicate")
    blurred = F.conv2d(F.conv2d(blurred, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return 2 * torch.cat((current, blurred, given), dim=1) - 1


def outline_band(mask: Tensor, reach: int) -> Tensor:
    """Find the pixels with another side of a mask within `reach` pixels, in Chebyshev distance.

    Args:
        mask: (N, 1, H, W) bool.
        reach: pixels, at least 1.

    Returns:
        bool (N, 1, H, W); the image's border is no outline.
    """
    rows, columns = (_covered(side, reach, mask.device) for side in mask.shape[-2:])
    count = box_sum(mask, 2 * reach + 1)
    return (count > 0) & (count < rows[:, None] * columns)


def _covered(length: int, reach: int, device: torch.device) -> Tensor:
    """Return how many of `length` pixels in a row are within `reach` of each, int32 (length,)."""
    at = torch.arange(length, dtype=torch.int32, device=device)
    return (at + reach).clamp(max=length - 1) - (at - reach).clamp(min=0) + 1


def box_sum(values: Tensor, side: int) -> Tensor:
    """Count the pixels of `values` in the square of `side`, odd, about each pixel.

    Args:
        values: (..., H, W) bool; beyond the border all are false.
        side: pixels.

    Returns:
        int32 (..., H, W).
    """
    reach = side // 2
    total = F.pad(values.int(), (reach + 1, reach, reach + 1, reach))
    total = total.cumsum_(-2).cumsum_(-1)  # in place: of a large photograph each copy is 100 MB
    rows = total[..., side:, :] - total[..., :-side, :]
    return rows[..., side:] - rows[..., :-side]
