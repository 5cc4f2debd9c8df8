"""The network that refines masks: it reads an image and a mask, and its points decide near the mask's outline."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from pointrend.core.mask_input import MASK_CHANNELS
from pointrend.models.backbones import Backbone
from pointrend.models.point_head import PointHead
from pointrend.models.semantic_network import SemanticNetwork
from pointrend.models.settings import RefinerArchitecture

STRIDES = (2, 4, 8, 16)


class MaskRefiner(SemanticNetwork):
    """PointRend on a mask that is given: class-agnostic, one logit.

    Its input (N, 6, H, W) is the image, normalised, and `core.mask_channels`. The coarse logits, at stride 4, are what
    the pyramid adds to the given mask; points read two convolutions on the input at full resolution, the pyramid at
    strides 2 and 4, and the masks.

    Args:
        architecture: the numbers.
    """

    encoder_parts = ("backbone", "pyramid", "coarse_head", "stem", "mask_scale")
    input_channels = 3 + MASK_CHANNELS

    def __init__(self, architecture: RefinerArchitecture = RefinerArchitecture()) -> None:
        super().__init__()
        inputs, width, stem = self.input_channels, architecture.pyramid_channels, architecture.stem_channels
        self.backbone = Backbone(architecture.backbone, strides=STRIDES)
        widen_input(self.backbone.model, inputs)
        self.pyramid = FeaturePyramidNetwork(list(self.backbone.channels), width, norm_layer=_norm)
        last = nn.Conv2d(width, 1, 1)
        nn.init.zeros_(last.weight)  # starts from the given mask
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.coarse_head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), _norm(width), nn.ReLU(inplace=True), last
        )
        self.mask_scale = nn.Parameter(torch.tensor(3.0))
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, stem, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(stem, stem, 3, padding=1), nn.ReLU()
        )
        self.point_head = PointHead(
            in_channels=stem + MASK_CHANNELS + 2 * width, num_classes=1, architecture=architecture.point
        )
        self.point_head.start_from_coarse()
        self.padding = architecture.point.padding

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (N, 6, H, W) -> coarse logits (N, 1, H / 4, W / 4), and maps at strides 1, 2 and 4."""
        levels = OrderedDict((str(stride), m) for stride, m in zip(STRIDES, self.backbone(images), strict=True))
        half, quarter, *_ = self.pyramid(levels).values()
        masks = images[:, 3:]
        given = F.avg_pool2d(masks[:, :1], 4, ceil_mode=True, count_include_pad=False)
        coarse = self.coarse_head(quarter) + self.mask_scale * given
        return coarse, torch.cat((self.stem(images), masks), dim=1), half, quarter


def widen_input(model: nn.Module, channels: int) -> None:
    """Let the first convolution of a model of timm read more channels than three; the new ones start at zero."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    weight = first.weight.detach()
    extra = weight.new_zeros(weight.shape[0], channels - weight.shape[1], *weight.shape[2:])
    first.weight = nn.Parameter(torch.cat((weight, extra), dim=1))
    first.in_channels = channels


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, channels)
