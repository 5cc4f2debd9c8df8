"""Feature pyramids of timm's models, by name."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.resnet import Bottleneck
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from pointrend.errors import PointRendError
from pointrend.models.context import ContextPyramid
from pointrend.models.settings import PyramidArchitecture

PYRAMID_STRIDES = (4, 8, 16, 32)

# Swin computes at one input size only unless asked otherwise; other models lack the option.
_OPTIONS: tuple[dict[str, bool], ...] = ({}, {"strict_img_size": False})
_ADVICE = "take a convolutional or hierarchical one, for instance resnet50c or swin_tiny_patch4_window7_224"


class Backbone(nn.Module):
    """The feature maps of a timm model at the strides asked for.

    Any `features_only` model will do that has these strides and takes inputs of any size. Models that compute
    channels-last (Swin, for one) are permuted, so that the output is always (N, C, H, W). Models that refuse sizes
    that a stride does not divide, or that round their maps' sizes down and so shift them, get their input padded and
    their maps cropped.

    Args:
        name: timm's name, "resnet50c" or "tf_efficientnet_lite0" for two.
        strides: the strides wanted, ascending.
        stride_in_1x1: bottlenecks take their stride in the first 1x1 convolution, as in Caffe's ResNets and so in
            detectron2's, instead of in the 3x3 one. The weights' names and shapes are the same.

    Attributes:
        channels: of each map.

    Raises:
        PointRendError: timm has no such model, or the model lacks one of the strides or works at one size only, or it
            has no bottlenecks whose stride could be moved.
    """

    def __init__(self, name: str, *, strides: Sequence[int] = PYRAMID_STRIDES, stride_in_1x1: bool = False) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.model, self._multiple = _fitting(name, self.strides)
        if stride_in_1x1 and not _move_strides(self.model):
            raise PointRendError(f"{name}: stride_in_1x1 needs a ResNet of bottlenecks, for instance resnet50")
        self.channels: tuple[int, ...] = tuple(self.model.feature_info.channels())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (N, 3, H, W) -> one (N, C, H / stride, W / stride) a stride, sizes rounded up."""
        height, width = images.shape[2:]
        bottom, right = -height % self._multiple, -width % self._multiple
        if not (bottom or right):
            return _maps(self.model, images)
        maps = _maps(self.model, F.pad(images, (0, right, 0, bottom)))
        sizes = [_rounded_up((height, width), stride) for stride in self.strides]
        return tuple(m[:, :, :h, :w] for m, (h, w) in zip(maps, sizes, strict=True))


def backbone_and_pyramid(
    architecture: PyramidArchitecture, *, extra_blocks: ExtraFPNBlock | None = None, context: int = 0
) -> tuple[Backbone, FeaturePyramidNetwork, int]:
    """Build a backbone and its pyramid, with `context` blocks, and count the channels of the maps that points read."""
    early = tuple(s for s in sorted(architecture.fine_strides) if s < PYRAMID_STRIDES[0])
    backbone = Backbone(
        architecture.backbone, strides=early + PYRAMID_STRIDES, stride_in_1x1=architecture.stride_in_1x1
    )
    channels, own = architecture.fpn_channels, backbone.channels
    pyramid = (
        ContextPyramid(own[len(early) :], channels, context)
        if context
        else FeaturePyramidNetwork(list(own[len(early) :]), channels, extra_blocks)
    )
    levels = sum(s in PYRAMID_STRIDES for s in architecture.fine_strides)
    return backbone, pyramid, levels * channels + sum(own[: len(early)])


def pyramid_maps(
    backbone: nn.Module, pyramid: nn.Module, images: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the pyramid's levels of images (N, 3, H, W), and the backbone's own maps finer than stride 4."""
    maps = backbone(images)
    num_early = len(maps) - len(PYRAMID_STRIDES)
    levels = OrderedDict((str(i), m) for i, m in enumerate(maps[num_early:]))
    return tuple(pyramid(levels).values()), tuple(maps[:num_early])


def _fitting(name: str, strides: tuple[int, ...]) -> tuple[Any, int]:
    """Return the model, and the multiple that its inputs must be padded to for its maps to lie where points look."""
    out_indices = _out_indices(name, strides)
    failure: str | None = None
    for options in _OPTIONS:
        try:
            model = _create(name, {**options, "out_indices": out_indices})
        except TypeError:  # it does not know the option
            continue
        for multiple in (1, max(strides)):
            failure = _misfit(model, strides, multiple)
            if failure is None:
                return model, multiple
    raise PointRendError(f"{name}: it does not take inputs of any size ({failure}); {_ADVICE}")


def _out_indices(name: str, strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return timm's indices of the model's maps at these strides."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; the nearest names are {', '.join(near)}" if near else ""
        raise PointRendError(f"{name}: timm {timm.__version__} has no backbone of this name{hint}")
    try:
        info = _create_to_look_at(name).feature_info
    except Exception as error:  # whatever timm raises for a model that has no features to give
        raise PointRendError(f"{name}: timm cannot give its intermediate features ({_line(error)})") from error
    reductions = list(info.reduction())
    if not set(strides) <= set(reductions):
        has, needs = (", ".join(map(str, numbers)) for numbers in (reductions, strides))
        raise PointRendError(f"{name}: its features have strides {has}, not {needs}; {_ADVICE}")
    # A stride may occur twice (a stem and a stage); the deeper one is meant.
    last = dict(zip(reductions, info.out_indices, strict=True))
    return tuple(last[stride] for stride in strides)


def _create(name: str, options: Mapping[str, object]) -> Any:
    return timm.create_model(name, features_only=True, pretrained=False, **options)


def _create_to_look_at(name: str) -> Any:
    """Build a model to look at, without drawing from torch's random numbers; its weights are of no use."""
    try:
        with torch.device("meta"):
            return _create(name, {})
    except (RuntimeError, NotImplementedError):  # some compute with values while they are built
        with torch.random.fork_rng(devices=[]):
            return _create(name, {})


def _misfit(model: nn.Module, strides: tuple[int, ...], multiple: int) -> str | None:
    """Return why the maps of inputs padded to `multiple` have wrong sizes, or None if they are right."""
    last = max(strides)
    size = (last + 1, 2 * last + 1) if multiple == 1 else (2 * last, 3 * last)
    images = torch.zeros(1, 3, *size, device=next(model.parameters()).device)
    model.eval()
    try:
        with torch.no_grad():
            found = [tuple(m.shape[2:]) for m in _maps(model, images)]
    except Exception as error:  # models of one size fail in many ways
        return f"{size[0]} x {size[1]}: {_line(error)}"
    finally:
        model.train()
    expected = [_rounded_up(size, stride) for stride in strides]
    return None if found == expected else f"{size[0]} x {size[1]} gives maps of {found}, not {expected}"


def _move_strides(model: nn.Module) -> int:
    """Move the strides of bottlenecks from the 3x3 to the first 1x1 convolution, and return how many were moved."""
    moved = 0
    for block in model.modules():
        if not isinstance(block, Bottleneck) or block.conv2.stride == (1, 1):
            continue
        block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
        moved += 1
    return moved


def _maps(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    maps = model(images)
    if str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC"):
        return tuple(m.permute(0, 3, 1, 2).contiguous() for m in maps)
    return tuple(maps)


def _rounded_up(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
