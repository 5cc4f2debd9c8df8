"""The coarse head of semantic models: Semantic FPN's (Kirillov et al., "Panoptic Feature Pyramid Networks", 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "group"]


class SemanticFPNHead(nn.Module):
    """Coarse logits at stride 4 from a pyramid at strides 4, 8, 16, 32.

    A level of stride 4 * 2^n is brought to stride 4 by n blocks (one for n = 0) of 3x3 convolution, norm and ReLU, each
    followed by x2 bilinear upsampling unless n = 0. The levels are resized to the first one's size, which differs where
    the stride does not divide the image, summed, and classified by a 1x1 convolution.

    Args:
        in_channels: of every pyramid level.
        channels: of the blocks.
        num_classes: C, the logits.
        num_levels: pyramid levels, the first at stride 4.
        norm: "batch" (mmsegmentation) or "group" with 32 groups (detectron2).
    """

    def __init__(
        self, *, in_channels: int, num_classes: int, channels: int = 128, num_levels: int = 4, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for level in range(num_levels):
            widths = [in_channels] + [channels] * max(1, level)
            blocks = [_block(a, b, norm=norm, upsample=level > 0) for a, b in pairwise(widths)]
            self.levels.append(nn.Sequential(*blocks))
        self.classifier = nn.Conv2d(channels, num_classes, kernel_size=1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """pyramid of (N, D, H / 2^n, W / 2^n) -> coarse logits (N, C, H, W)."""
        total = self.levels[0](pyramid[0])
        for level, features in zip(list(self.levels)[1:], pyramid[1:], strict=True):
            upsampled = level(features)
            if upsampled.shape[2:] != total.shape[2:]:
                upsampled = F.interpolate(upsampled, size=total.shape[2:], mode="bilinear", align_corners=False)
            total = total + upsampled
        logits: Tensor = self.classifier(total)
        return logits


def _block(in_channels: int, out_channels: int, *, norm: Norm, upsample: bool) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels) if norm == "batch" else nn.GroupNorm(32, out_channels),
        nn.ReLU(inplace=True),
    ]
    if upsample:
        layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers)
