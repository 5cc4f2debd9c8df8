"""What the tensors of published checkpoints are called, and what we call them."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern that a whole name must match, and the name of ours."""

LEGACY: tuple[tuple[str, str], ...] = (
    (r"(^|\.)mask_coarse_head\.", r"\1mask_head.coarse_head."),
    (r"(^|\.)mask_point_head\.", r"\1mask_head.point_head."),
    (r"(^|\.)coarse_mask_fc(\d+)\.", r"\1fc\2."),
)
"""What older detectron2 checkpoints call parts of PointRend, and what newer ones do."""


def _less(group: int, amount: int) -> Callable[[re.Match[str]], int]:
    return lambda match: int(match[group]) - amount


def _numbered(text: str, **numbers: Callable[[re.Match[str]], int]) -> Callable[[re.Match[str]], str]:
    """A replacement with computed numbers in braces."""
    return lambda match: match.expand(text.format(**{name: value(match) for name, value in numbers.items()}))


def _half(group: int) -> Callable[[re.Match[str]], int]:
    # Upsampling layers between the convolutions count, and have no weights.
    return lambda match: int(match[group]) // 2


_NORM = "weight|bias|running_mean|running_var|num_batches_tracked"

_MMSEGMENTATION: tuple[Rule, ...] = (
    (rf"backbone\.stem\.7\.({_NORM})", r"backbone.model.bn1.\1"),
    (rf"backbone\.stem\.([01346])\.({_NORM})", r"backbone.model.conv1.\1.\2"),
    (r"backbone\.((?:conv1|bn1|layer[1-4])\..+)", r"backbone.model.\1"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(weight|bias)", r"pyramid.inner_blocks.\1.0.\2"),
    (r"neck\.fpn_convs\.(\d)\.conv\.(weight|bias)", r"pyramid.layer_blocks.\1.0.\2"),
    (
        r"decode_head\.0\.scale_heads\.(\d)\.([024])\.conv\.weight",
        _numbered(r"coarse_head.levels.\1.{block}.0.weight", block=_half(2)),
    ),
    (
        rf"decode_head\.0\.scale_heads\.(\d)\.([024])\.bn\.({_NORM})",
        _numbered(r"coarse_head.levels.\1.{block}.1.\3", block=_half(2)),
    ),
    (r"decode_head\.0\.conv_seg\.(weight|bias)", r"coarse_head.classifier.\1"),
    (r"decode_head\.1\.fcs\.(\d+)\.conv\.(weight|bias)", r"point_head.layers.\1.\2"),
    (r"decode_head\.1\.fc_seg\.(weight|bias)", r"point_head.classifier.\1"),
)

_RES = r"backbone\.bottom_up\.res([2-5])\.(\d+)"
_COARSE = r"sem_seg_head\.coarse_sem_seg_head"
_DETECTRON2: tuple[Rule, ...] = (
    (r"backbone\.bottom_up\.stem\.conv1\.weight", "backbone.model.conv1.weight"),
    (rf"backbone\.bottom_up\.stem\.conv1\.norm\.({_NORM})", r"backbone.model.bn1.\1"),
    (
        rf"{_RES}\.conv([123])\.weight",
        _numbered(r"backbone.model.layer{layer}.\2.conv\3.weight", layer=_less(1, 1)),
    ),
    (
        rf"{_RES}\.conv([123])\.norm\.({_NORM})",
        _numbered(r"backbone.model.layer{layer}.\2.bn\3.\4", layer=_less(1, 1)),
    ),
    (
        rf"{_RES}\.shortcut\.weight",
        _numbered(r"backbone.model.layer{layer}.\2.downsample.0.weight", layer=_less(1, 1)),
    ),
    (
        rf"{_RES}\.shortcut\.norm\.({_NORM})",
        _numbered(r"backbone.model.layer{layer}.\2.downsample.1.\3", layer=_less(1, 1)),
    ),
    (
        r"backbone\.fpn_lateral([2-5])\.(weight|bias)",
        _numbered(r"pyramid.inner_blocks.{level}.0.\2", level=_less(1, 2)),
    ),
    (
        r"backbone\.fpn_output([2-5])\.(weight|bias)",
        _numbered(r"pyramid.layer_blocks.{level}.0.\2", level=_less(1, 2)),
    ),
    (
        rf"{_COARSE}\.p([2-5])\.([024])\.weight",
        _numbered(r"coarse_head.levels.{level}.{block}.0.weight", level=_less(1, 2), block=_half(2)),
    ),
    (
        rf"{_COARSE}\.p([2-5])\.([024])\.norm\.({_NORM})",
        _numbered(r"coarse_head.levels.{level}.{block}.1.\3", level=_less(1, 2), block=_half(2)),
    ),
    (rf"{_COARSE}\.predictor\.(weight|bias)", r"coarse_head.classifier.\1"),
    (
        r"sem_seg_head\.point_head\.fc(\d+)\.(weight|bias)",
        _numbered(r"point_head.layers.{layer}.\2", layer=_less(1, 1)),
    ),
    (r"sem_seg_head\.point_head\.predictor\.(weight|bias)", r"point_head.classifier.\1"),
)

_MASK = r"roi_heads\.mask_head"
_RCNN: tuple[Rule, ...] = (
    (r"proposal_generator\.rpn_head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(weight|bias)", r"rpn.head.cls_logits.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(weight|bias)", r"rpn.head.bbox_pred.\1"),
    (r"roi_heads\.box_head\.fc1\.(weight|bias)", r"box_head.fc6.\1"),
    (r"roi_heads\.box_head\.fc2\.(weight|bias)", r"box_head.fc7.\1"),
    (r"roi_heads\.box_predictor\.(cls_score|bbox_pred)\.(weight|bias)", r"box_predictor.\1.\2"),
    (rf"{_MASK}\.coarse_head\.reduce_channel_dim_conv\.(weight|bias)", r"mask_head.coarse_head.reduce.\1"),
    (rf"{_MASK}\.coarse_head\.reduce_spatial_dim_conv\.(weight|bias)", r"mask_head.coarse_head.conv.\1"),
    (rf"{_MASK}\.coarse_head\.fc([12])\.(weight|bias)", r"mask_head.coarse_head.fc\1.\2"),
    (rf"{_MASK}\.coarse_head\.prediction\.(weight|bias)", r"mask_head.coarse_head.classifier.\1"),
    (
        rf"{_MASK}\.point_head\.fc(\d+)\.(weight|bias)",
        _numbered(r"mask_head.point_head.layers.{layer}.\2", layer=_less(1, 1)),
    ),
    (rf"{_MASK}\.point_head\.predictor\.(weight|bias)", r"mask_head.point_head.classifier.\1"),
)

RULES: dict[str, tuple[Rule, ...]] = {"mmsegmentation": _MMSEGMENTATION, "detectron2": _DETECTRON2 + _RCNN}


def current_name(name: str) -> str:
    """The name that detectron2 gives now to what older checkpoints call `name`."""
    for pattern, replacement in LEGACY:
        name = re.sub(pattern, replacement, name)
    return name


def our_name(name: str, source: str) -> str | None:
    """What we call a parameter of a toolbox's checkpoint; None if we have none of the kind."""
    for pattern, replacement in RULES[source]:
        match = re.fullmatch(pattern, current_name(name))
        if match is not None:
            return match.expand(replacement) if isinstance(replacement, str) else replacement(match)
    return None


def our_value(name: str, tensor: Tensor, source: str) -> Tensor:
    """A tensor of a checkpoint as the parameter that we call `name`."""
    if ".point_head." in f".{name}" and tensor.ndim == 3 and tensor.shape[2] == 1:
        return tensor.squeeze(2)  # a 1x1 convolution over points is a linear layer
    if source == "detectron2" and tensor.ndim > 0 and len(tensor) > 0:
        # The background is detectron2's last class and torchvision's first, and only the latter has a box for it.
        if name.startswith("box_predictor.cls_score."):
            return torch.cat((tensor[-1:], tensor[:-1]))
        if name.startswith("box_predictor.bbox_pred."):
            return torch.cat((tensor.new_zeros((4, *tensor.shape[1:])), tensor))
    return tensor
