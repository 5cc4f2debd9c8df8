"""Upgrade the headers of older model files to the present format."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

_POINT = ("point_hidden", "point_depth", "coarse_every_layer", "point_normalize", "padding")
_DETECTION = ("proposals_per_level", "max_proposals", "proposal_nms", "score_threshold", "nms", "max_detections")
_SUBDIVISION = ("num_points", "steps", "start")

# Paths in format 1, and the same numbers' paths in format 2.
_COMMON = {"architecture.num_classes": "num_logits"} | {f"test.{n}": f"test.subdivision.{n}" for n in _SUBDIVISION}
_SEMANTIC = _COMMON | {f"architecture.{n}": f"architecture.point.{n.removeprefix('point_')}" for n in _POINT}
_INSTANCE = (
    _COMMON
    | {f"architecture.{n}": f"architecture.mask.point.{n.removeprefix('point_')}" for n in _POINT}
    | {f"test.{n}": f"test.detection.{n}" for n in _DETECTION}
    | {
        "architecture.coarse_channels": "architecture.mask.channels",
        "architecture.coarse_hidden": "architecture.mask.hidden",
        "architecture.class_agnostic": "architecture.mask.class_agnostic",
    }
)


def upgraded(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a header of format 1 in format 2; unknown fields stay where they are."""
    header = copy.deepcopy(dict(fields))
    moves = _INSTANCE if header.get("task") == "instance" else _SEMANTIC
    for old, new in moves.items():
        section, _, name = old.partition(".")
        if isinstance(header.get(section), dict) and name in header[section]:
            value, target = header[section].pop(name), header
            *sections, last = new.split(".")
            for section in sections:
                target = target.setdefault(section, {})
            target[last] = value
    return {**header, "format_version": 2}
