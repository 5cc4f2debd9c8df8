"""Model files of format 1, whose numbers stood side by side, are read as those of the present format."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from pointrend.core import Subdivision
from pointrend.models import Detection, InstanceArchitecture, MaskArchitecture, PointArchitecture
from pointrend.spec import InstanceSpec, SemanticSpec
from pointrend.zoo.formats import upgraded
from pointrend.zoo.modelfile import METADATA_KEY, ModelFileError, parse_spec, read_model

SEMANTIC: dict[str, Any] = {
    "format_version": 1,
    "name": "small",
    "task": "semantic",
    "architecture": {
        "backbone": "tf_efficientnet_lite0",
        "fpn_channels": 16,
        "coarse_channels": 16,
        "coarse_norm": "batch",
        "point_hidden": 16,
        "point_depth": 3,
        "coarse_every_layer": True,
        "point_normalize": False,
        "fine_strides": [4, 2],
        "padding": "zeros",
        "stride_in_1x1": False,
        "num_classes": 3,
    },
    "classes": [
        {"name": "background", "color": [0, 0, 0], "ignore": False},
        {"name": "green", "color": [0, 200, 0], "ignore": False},
        {"name": "blue", "color": [0, 0, 200], "ignore": False},
    ],
    "test": {"shortest": 64, "longest": 128, "pad_multiple": 32, "num_points": 256, "steps": 2},
    "data": "coloured paper",
    "licence": "CC0-1.0",
    "scores": {"miou": 61.25},
}
INSTANCE: dict[str, Any] = {
    "format_version": 1,
    "name": "cells",
    "task": "instance",
    "architecture": {
        "backbone": "resnet18",
        "fpn_channels": 96,
        "anchor_sizes": [[12.0], [24.0], [48.0], [96.0], [192.0]],
        "anchor_ratios": [0.5, 1.0],
        "box_hidden": 256,
        "box_canonical_size": 448.0,
        "coarse_channels": 97,
        "coarse_hidden": 98,
        "point_hidden": 99,
        "point_depth": 2,
        "coarse_every_layer": False,
        "point_normalize": True,
        "fine_strides": [4, 2],
        "padding": "border",
        "stride_in_1x1": True,
        "class_agnostic": True,
        "num_classes": 1,
    },
    "classes": [{"name": "nucleus", "color": [255, 200, 0], "ignore": False}],
    "test": {
        "shortest": 800,
        "longest": 3200,
        "scale": 2.0,
        "pad_multiple": 32,
        "proposals_per_level": 901,
        "max_proposals": 902,
        "proposal_nms": 0.6,
        "score_threshold": 0.04,
        "nms": 0.4,
        "max_detections": 400,
        "start": 14,
        "num_points": 700,
        "steps": 4,
        "paste": "bilinear",
    },
}


def test_a_semantic_header(small_spec: SemanticSpec) -> None:
    assert parse_spec(upgraded(SEMANTIC)) == small_spec


def test_an_instance_header() -> None:
    spec = parse_spec(upgraded(INSTANCE))
    assert isinstance(spec, InstanceSpec)
    assert spec.num_logits == 1
    assert spec.architecture == InstanceArchitecture(
        backbone="resnet18",
        stride_in_1x1=True,
        fine_strides=(4, 2),
        fpn_channels=96,
        anchor_sizes=((12,), (24,), (48,), (96,), (192,)),
        anchor_ratios=(0.5, 1.0),
        box_hidden=256,
        box_canonical_size=448,
        mask=MaskArchitecture(
            channels=97,
            hidden=98,
            class_agnostic=True,
            point=PointArchitecture(hidden=99, depth=2, coarse_every_layer=False, normalize=True, padding="border"),
        ),
    )
    assert spec.test.detection == Detection(
        proposals_per_level=901, max_proposals=902, proposal_nms=0.6, score_threshold=0.04, nms=0.4, max_detections=400
    )
    assert spec.test.subdivision == Subdivision(num_points=700, steps=4, start=14)
    assert (spec.test.shortest, spec.test.longest, spec.test.scale, spec.test.paste) == (800, 3200, 2.0, "bilinear")


@pytest.mark.parametrize("fields", [SEMANTIC, INSTANCE])
def test_what_is_given_stays_as_it_is(fields: dict[str, Any]) -> None:
    before = copy.deepcopy(fields)
    upgraded(fields)
    assert fields == before


def test_a_file_of_format_1_is_read_and_what_is_wrong_in_it_is_named(
    small_spec: SemanticSpec, small_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "old.safetensors"
    save_file(load_file(small_file), path, {METADATA_KEY: json.dumps(SEMANTIC)})
    assert read_model(path).spec == small_spec
    wrong = {**SEMANTIC, "architecture": {**SEMANTIC["architecture"], "surprise": 1}}
    save_file(load_file(small_file), path, {METADATA_KEY: json.dumps(wrong)})
    with pytest.raises(ModelFileError, match=r"wrong at architecture\.surprise"):
        read_model(path)
