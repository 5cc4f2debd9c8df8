"""Networks without weights, whose right answer is known, for the tests of mistakes."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from pointrend.core import (
    Subdivision,
)
from pointrend.data import InputSpec
from pointrend.data.classes import ClassInfo
from pointrend.models import (
    Backbone,
    PointHead,
    SemanticArchitecture,
    SemanticFPNHead,
    SemanticPointRend,
)
from pointrend.spec import SemanticSpec, SemanticTest
from pointrend.zoo import Model

CLASSES = (ClassInfo("dark", (0, 0, 0)), ClassInfo("bright", (255, 255, 255)))


# A network without weights: its only logit is an image's first channel, coarse at stride 4 and fine at stride 1.


class _Pooled(nn.Module):
    strides = (1, 4, 8, 16, 32)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (images, *(F.avg_pool2d(images, s, ceil_mode=True) for s in self.strides[1:]))


class _Levels(nn.Module):
    def forward(self, levels: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
        return levels


class _FirstChannel(nn.Module):
    def forward(self, pyramid: list[Tensor]) -> Tensor:
        return pyramid[0][:, :1]


class _ReadsTheImage(nn.Module):
    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        return fine[..., 3:4]  # P2's three channels come first


class _Sum(nn.Module):
    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        return torch.cat((fine, coarse), dim=2).mean(2, keepdim=True)


class _Handmade(SemanticPointRend):
    def parts(self) -> dict[str, nn.Module]:
        return {
            "backbone": self.backbone,
            "pyramid": self.pyramid,
            "coarse_head": self.coarse_head,
            "point_head": self.point_head,
        }


def handmade(point_head: nn.Module, padding: str = "zeros") -> _Handmade:
    return _Handmade(
        backbone=cast("Backbone", _Pooled()),
        pyramid=cast("FeaturePyramidNetwork", _Levels()),
        coarse_head=cast("SemanticFPNHead", _FirstChannel()),
        point_head=cast("PointHead", point_head),
        padding=padding,  # type: ignore[arg-type]
    )


def sums_of_inputs(padding: str) -> _Handmade:
    return handmade(_Sum(), padding)


def brightness_model(*, num_points: int, steps: int = 2, shortest: int = 64, pad_multiple: int = 1) -> Model:
    """Labels what is brighter than 127.5; the network sees images at their own size if `shortest` is theirs."""
    spec = SemanticSpec(
        name="brightness",
        num_logits=1,
        architecture=SemanticArchitecture(backbone="none"),
        classes=CLASSES,
        input=InputSpec(mean=(127.5,) * 3, std=(127.5,) * 3),
        test=SemanticTest(
            shortest=shortest, longest=4096, pad_multiple=pad_multiple, subdivision=Subdivision(num_points, steps)
        ),
    )
    return Model(handmade(_ReadsTheImage()), spec)


def brightness_image(size: tuple[int, int]) -> np.ndarray:
    """Dark, with a bright rectangle that fits no cell of stride 4 and touches two sides of the image."""
    pixels = np.full((*size, 3), 20, dtype=np.uint8)
    pixels[size[0] // 3 :, size[1] // 2 + 1 :] = 230
    return pixels
