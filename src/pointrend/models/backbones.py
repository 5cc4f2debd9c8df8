"""Feature pyramids of timm's models, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PYRAMID_STRIDES = (4, 8, 16, 32)

# Swin computes at one input size only unless told otherwise; other models do not know the option.
_OPTIONS: tuple[dict[str, bool], ...] = ({}, {"strict_img_size": False})
_ADVICE = "Take a convolutional or hierarchical one, for instance resnet50c or swin_tiny_patch4_window7_224"


class Backbone(nn.Module):
    """The feature maps of a timm model at the strides asked for.

    Any `features_only` model will do that has these strides and takes inputs of any size. Models that compute
    channels-last (Swin, for one) are permuted, so that the output is always (N, C, H, W).

    Args:
        name: timm's name, "resnet50c" or "tf_efficientnet_lite0" for two.
        strides: the strides wanted, ascending. For an image of H x W the maps are H / stride x W / stride, rounded up.

    Raises:
        ValueError: timm has no such model, or the model lacks one of the strides or works at one size only.
    """

    def __init__(self, name: str, *, strides: Sequence[int] = PYRAMID_STRIDES) -> None:
        super().__init__()
        plan = _plan(name, tuple(strides))
        self.strides = tuple(strides)
        self.model = timm.create_model(
            name, features_only=True, out_indices=plan.out_indices, pretrained=False, **plan.options
        )
        self.channels: tuple[int, ...] = tuple(self.model.feature_info.channels())
        self._multiple = plan.multiple

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (N, 3, H, W) -> one (N, C, H / stride, W / stride) a stride, sizes rounded up."""
        height, width = images.shape[2:]
        bottom, right = -height % self._multiple, -width % self._multiple
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom))
        maps = _channels_first(self.model, self.model(images))
        if bottom or right:
            sizes = [_rounded_up((height, width), stride) for stride in self.strides]
            maps = [m[:, :, :h, :w] for m, (h, w) in zip(maps, sizes, strict=True)]
        return tuple(maps)


@dataclass(frozen=True)
class _Plan:
    """How to build a model so that its maps lie where points look for them."""

    out_indices: tuple[int, ...]
    options: dict[str, bool]
    multiple: int
    """What inputs are padded to. Some models need it; others round their maps' sizes down, which shifts the maps."""


def _plan(name: str, strides: tuple[int, ...]) -> _Plan:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; the nearest names are {', '.join(near)}" if near else ""
        raise ValueError(f"{name}: timm {timm.__version__} has no backbone of this name{hint}")
    try:
        info = _trial(name, {}).feature_info
    except Exception as error:  # whatever timm raises for a model that has no features to give
        raise ValueError(f"{name}: timm cannot give its intermediate features ({_line(error)})") from error
    reductions = list(info.reduction())
    if not set(strides) <= set(reductions):
        has, needs = (", ".join(map(str, numbers)) for numbers in (reductions, strides))
        raise ValueError(f"{name}: its features have strides {has}; this model needs {needs}. {_ADVICE}")
    # A stride may occur twice (a stem and a stage); the deeper one is meant.
    last = dict(zip(reductions, info.out_indices, strict=True))
    out_indices = tuple(last[stride] for stride in strides)
    failures = []
    for options in _OPTIONS:
        try:
            model = _trial(name, options | {"out_indices": out_indices})
        except TypeError:  # it does not know the option
            continue
        for multiple in (1, max(strides)):
            failure = _misfit(model, strides, multiple)
            if failure is None:
                return _Plan(out_indices, options, multiple)
            failures.append(failure)
    raise ValueError(f"{name}: it does not take inputs of any size ({failures[-1]}). {_ADVICE}")


def _trial(name: str, options: Mapping[str, object]) -> nn.Module:
    """The model without weights; nothing is drawn from torch's random numbers."""

    def create() -> nn.Module:
        model: nn.Module = timm.create_model(name, features_only=True, pretrained=False, **options)
        return model.eval()

    try:
        with torch.device("meta"):
            return create()
    except (RuntimeError, NotImplementedError):  # some models compute with values while they are built
        with torch.random.fork_rng(devices=[]):
            return create()


def _misfit(model: nn.Module, strides: tuple[int, ...], multiple: int) -> str | None:
    """Why the maps of an input whose sides are multiples of `multiple` (1: any) are not what they should be, or None."""
    last = max(strides)
    size = (last + 1, 2 * last + 1) if multiple == 1 else (2 * last, 3 * last)
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            maps = _channels_first(model, model(torch.zeros(1, 3, *size, device=device)))
    except Exception as error:  # models of one size fail in many ways
        return f"{size[0]} x {size[1]}: {_line(error)}"
    found = [tuple(m.shape[2:]) for m in maps]
    expected = [_rounded_up(size, stride) for stride in strides]
    return None if found == expected else f"{size[0]} x {size[1]} gives maps of {found}, not {expected}"


def _channels_first(model: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
    if str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC"):
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps]
    return list(maps)


def _rounded_up(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
