"""Cut-outs: a photograph's object with soft edges and without the background's colours in them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core.mask_input import outline_band

CERTAIN = 0.95
"""Pixels of at least this much object have the object's own colour."""


def cutout(image: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Return (H, W, 4) uint8 RGBA of an image (H, W, 3) uint8 and a soft mask (H, W) float32 in [0, 1].

    The edge alone is soft, within `edge_reach` of the outline: further away, half clear pixels would be smoke around
    the object and holes in it. Where a pixel is partly background, its colour is taken from the object's certain pixels
    nearby; other pixels of the object keep theirs.
    """
    colors = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    alpha = torch.from_numpy(np.ascontiguousarray(soft, np.float32))
    inside = alpha > 0.5
    edge = outline_band(inside[None, None], edge_reach(soft.shape))[0, 0]
    alpha = torch.where(edge, alpha, inside.float())
    certain = (alpha >= CERTAIN).float()
    cleaned = torch.where(certain > 0, colors, _spread(colors, certain)) if bool(certain.any()) else colors
    cleaned = torch.where(alpha > 0, cleaned, 0)
    pixels = torch.cat((cleaned, 255 * alpha[None])).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def edge_reach(size: tuple[int, ...]) -> int:
    """Return how many pixels from the outline an edge may be soft in an image of `size` (H, W): a hundredth of it."""
    return max(4, min(size) // 100)


def _spread(colors: Tensor, weight: Tensor) -> Tensor:
    """Return colours (3, H, W) for all pixels: means of nearby ones of weight 1, from as near as there are any.

    Weighted means over squares of 2, 4, 8, ... pixels are read back by interpolation, the finest that hold any.
    """
    height, width = weight.shape
    sums, weights = [(colors * weight)[None]], [weight[None, None]]
    while min(sums[-1].shape[2:]) > 1:
        sums.append(F.avg_pool2d(sums[-1], 2, ceil_mode=True))
        weights.append(F.avg_pool2d(weights[-1], 2, ceil_mode=True))
    result = sums[-1] / weights[-1].clamp(min=1e-12)
    for total, share in zip(reversed(sums[:-1]), reversed(weights[:-1]), strict=True):
        wider = F.interpolate(result, size=total.shape[2:], mode="bilinear", align_corners=False)
        trust = (4 * share).clamp(max=1)
        result = trust * total / share.clamp(min=1e-12) + (1 - trust) * wider
    return result[0, :, :height, :width]
