"""Our networks' weights by the names, and in the shapes, that the toolboxes give them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor


def mmsegmentation_name(name: str) -> str:
    name = re.sub(r"^backbone\.model\.conv1\.", "backbone.stem.", name)
    name = re.sub(r"^backbone\.model\.bn1\.", "backbone.stem.7.", name)
    name = name.replace("backbone.model.", "backbone.")
    name = re.sub(r"^pyramid\.inner_blocks\.(\d)\.0", r"neck.lateral_convs.\1.conv", name)
    name = re.sub(r"^pyramid\.layer_blocks\.(\d)\.0", r"neck.fpn_convs.\1.conv", name)
    if found := re.match(r"coarse_head\.levels\.(\d)\.(\d)\.([01])\.(.+)", name):
        level, block, kind, rest = found.groups()
        name = f"decode_head.0.scale_heads.{level}.{2 * int(block)}.{('conv', 'bn')[int(kind)]}.{rest}"
    name = name.replace("coarse_head.classifier", "decode_head.0.conv_seg")
    name = re.sub(r"^point_head\.layers\.(\d)", r"decode_head.1.fcs.\1.conv", name)
    return name.replace("point_head.classifier", "decode_head.1.fc_seg")


def detectron2_name(name: str) -> str | None:
    if name.endswith("num_batches_tracked"):
        return None
    name = name.replace("backbone.model.conv1.", "backbone.bottom_up.stem.conv1.")
    name = name.replace("backbone.model.bn1.", "backbone.bottom_up.stem.conv1.norm.")
    if found := re.match(r"backbone\.model\.layer(\d)\.(\d)\.(conv|bn|downsample\.)(\d)\.(.+)", name):
        layer, block, kind, number, rest = found.groups()
        norm = "norm." if kind == "bn" or (kind == "downsample." and number == "1") else ""
        part = "shortcut" if kind == "downsample." else f"conv{number}"
        name = f"backbone.bottom_up.res{int(layer) + 1}.{block}.{part}.{norm}{rest}"
    if found := re.match(r"pyramid\.(inner|layer)_blocks\.(\d)\.0\.(.+)", name):
        kind = {"inner": "lateral", "layer": "output"}[found[1]]
        name = f"backbone.fpn_{kind}{int(found[2]) + 2}.{found[3]}"
    if found := re.match(r"coarse_head\.levels\.(\d)\.(\d)\.([01])\.(.+)", name):
        level, block, kind, rest = found.groups()
        norm = "norm." if kind == "1" else ""
        name = f"sem_seg_head.coarse_sem_seg_head.p{int(level) + 2}.{2 * int(block)}.{norm}{rest}"
    name = name.replace("coarse_head.classifier", "sem_seg_head.coarse_sem_seg_head.predictor")
    if found := re.match(r"point_head\.layers\.(\d)\.(.+)", name):
        name = f"sem_seg_head.point_head.fc{int(found[1]) + 1}.{found[2]}"
    return name.replace("point_head.classifier", "sem_seg_head.point_head.predictor")


NAMES: dict[str, Callable[[str], str | None]] = {
    "mmsegmentation": mmsegmentation_name,
    "detectron2": detectron2_name,
}


INSTANCE = {
    "rpn.head.conv.0.0.": "proposal_generator.rpn_head.conv.",
    "rpn.head.cls_logits.": "proposal_generator.rpn_head.objectness_logits.",
    "rpn.head.bbox_pred.": "proposal_generator.rpn_head.anchor_deltas.",
    "box_head.fc6.": "roi_heads.box_head.fc1.",
    "box_head.fc7.": "roi_heads.box_head.fc2.",
    "box_predictor.": "roi_heads.box_predictor.",
    "mask_head.coarse_head.reduce.": "roi_heads.mask_head.coarse_head.reduce_channel_dim_conv.",
    "mask_head.coarse_head.conv.": "roi_heads.mask_head.coarse_head.reduce_spatial_dim_conv.",
    "mask_head.coarse_head.fc": "roi_heads.mask_head.coarse_head.fc",
    "mask_head.coarse_head.classifier.": "roi_heads.mask_head.coarse_head.prediction.",
}


def as_detectron2_instances(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of an instance model as detectron2 saves them: the background comes last, and has no box."""
    found = {}
    for ours, value in state.items():
        start = next((start for start in INSTANCE if ours.startswith(start)), None)
        if start is not None:
            name: str | None = INSTANCE[start] + ours.removeprefix(start)
        else:
            name = detectron2_name(ours.removeprefix("mask_head."))
        if name is None:
            continue
        name = name.replace("sem_seg_head.", "roi_heads.mask_head.")
        if ours.startswith("box_predictor.cls_score."):
            value = value.roll(-1, 0)
        if ours.startswith("box_predictor.bbox_pred."):
            value = value[4:]
        found[name] = value
    return found
