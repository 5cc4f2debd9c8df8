"""Translate the names and shapes of tensors in published checkpoints to ours."""

from __future__ import annotations

import re

import torch
from torch import Tensor

Rule = tuple[str, str]
r"""A pattern that a whole name must match, and our name: `\1` stands for group 1, `{1-2}` for its number less 2, and
`{1/2}` for half of it."""

LEGACY: tuple[Rule, ...] = (
    (r"(^|\.)mask_coarse_head\.", r"\1mask_head.coarse_head."),
    (r"(^|\.)mask_point_head\.", r"\1mask_head.point_head."),
    (r"(^|\.)coarse_mask_fc(\d+)\.", r"\1fc\2."),
)
"""Parts of names in older detectron2 checkpoints, and their present form."""

_NORM = "weight|bias|running_mean|running_var|num_batches_tracked"
_RES = r"backbone\.bottom_up\.res([2-5])\.(\d+)"
_COARSE = r"sem_seg_head\.coarse_sem_seg_head"
_MASK = r"roi_heads\.mask_head"

# Blocks of coarse heads are halved: the upsampling layers between them are numbered too, and have no weights.
RULES: dict[str, tuple[Rule, ...]] = {
    "mmsegmentation": (
        (rf"backbone\.stem\.7\.({_NORM})", r"backbone.model.bn1.\1"),
        (rf"backbone\.stem\.([01346])\.({_NORM})", r"backbone.model.conv1.\1.\2"),
        (r"backbone\.((?:conv1|bn1|layer[1-4])\..+)", r"backbone.model.\1"),
        (r"neck\.lateral_convs\.(\d)\.conv\.(weight|bias)", r"pyramid.inner_blocks.\1.0.\2"),
        (r"neck\.fpn_convs\.(\d)\.conv\.(weight|bias)", r"pyramid.layer_blocks.\1.0.\2"),
        (r"decode_head\.0\.scale_heads\.(\d)\.([024])\.conv\.weight", r"coarse_head.levels.\1.{2/2}.0.weight"),
        (rf"decode_head\.0\.scale_heads\.(\d)\.([024])\.bn\.({_NORM})", r"coarse_head.levels.\1.{2/2}.1.\3"),
        (r"decode_head\.0\.conv_seg\.(weight|bias)", r"coarse_head.classifier.\1"),
        (r"decode_head\.1\.fcs\.(\d+)\.conv\.(weight|bias)", r"point_head.layers.\1.\2"),
        (r"decode_head\.1\.fc_seg\.(weight|bias)", r"point_head.classifier.\1"),
    ),
    "detectron2": (
        (r"backbone\.bottom_up\.stem\.conv1\.weight", "backbone.model.conv1.weight"),
        (rf"backbone\.bottom_up\.stem\.conv1\.norm\.({_NORM})", r"backbone.model.bn1.\1"),
        (rf"{_RES}\.conv([123])\.weight", r"backbone.model.layer{1-1}.\2.conv\3.weight"),
        (rf"{_RES}\.conv([123])\.norm\.({_NORM})", r"backbone.model.layer{1-1}.\2.bn\3.\4"),
        (rf"{_RES}\.shortcut\.weight", r"backbone.model.layer{1-1}.\2.downsample.0.weight"),
        (rf"{_RES}\.shortcut\.norm\.({_NORM})", r"backbone.model.layer{1-1}.\2.downsample.1.\3"),
        (r"backbone\.fpn_lateral([2-5])\.(weight|bias)", r"pyramid.inner_blocks.{1-2}.0.\2"),
        (r"backbone\.fpn_output([2-5])\.(weight|bias)", r"pyramid.layer_blocks.{1-2}.0.\2"),
        # Semantic models.
        (rf"{_COARSE}\.p([2-5])\.([024])\.weight", r"coarse_head.levels.{1-2}.{2/2}.0.weight"),
        (rf"{_COARSE}\.p([2-5])\.([024])\.norm\.({_NORM})", r"coarse_head.levels.{1-2}.{2/2}.1.\3"),
        (rf"{_COARSE}\.predictor\.(weight|bias)", r"coarse_head.classifier.\1"),
        (r"sem_seg_head\.point_head\.fc(\d+)\.(weight|bias)", r"point_head.layers.{1-1}.\2"),
        (r"sem_seg_head\.point_head\.predictor\.(weight|bias)", r"point_head.classifier.\1"),
        # Instance models.
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
        (rf"{_MASK}\.point_head\.fc(\d+)\.(weight|bias)", r"mask_head.point_head.layers.{1-1}.\2"),
        (rf"{_MASK}\.point_head\.predictor\.(weight|bias)", r"mask_head.point_head.classifier.\1"),
    ),
}


_LEGACY = [(re.compile(pattern), replacement) for pattern, replacement in LEGACY]
_RULES = {source: [(re.compile(pattern), ours) for pattern, ours in rules] for source, rules in RULES.items()}


def current_name(name: str) -> str:
    """Return the name that detectron2 gives now to what older checkpoints call `name`."""
    for pattern, replacement in _LEGACY:
        name = pattern.sub(replacement, name)
    return name


def our_name(name: str, source: str) -> str | None:
    """Return our name of a parameter in a toolbox's checkpoint; None if no rule matches."""
    current = current_name(name)
    for pattern, ours in _RULES[source]:
        match = pattern.fullmatch(current)
        if match is not None:
            return _filled(ours, match)
    return None


def _filled(ours: str, match: re.Match[str]) -> str:
    def number(found: re.Match[str]) -> str:
        value, operand = int(match[int(found[1])]), int(found[3])
        return str(value - operand if found[2] == "-" else value // operand)

    return match.expand(re.sub(r"\{(\d)([-/])(\d)\}", number, ours))


def our_value(name: str, tensor: Tensor, source: str) -> Tensor:
    """Return a tensor of a checkpoint in the shape of the parameter that we call `name`."""
    if ".point_head." in f".{name}" and tensor.ndim == 3 and tensor.shape[2] == 1:
        return tensor.squeeze(2)  # a 1x1 convolution over points is a linear layer
    if source == "detectron2" and tensor.ndim > 0 and len(tensor) > 0:
        # The background is detectron2's last class and torchvision's first, and only the latter has a box for it.
        if name.startswith("box_predictor.cls_score."):
            return torch.cat((tensor[-1:], tensor[:-1]))
        if name.startswith("box_predictor.bbox_pred."):
            return torch.cat((tensor.new_zeros((4, *tensor.shape[1:])), tensor))
    return tensor
