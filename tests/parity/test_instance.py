"""detectron2's instance models compute what their authors' code computes.

References for weights, images and boxes that are not in the folder come from `second_implementation`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from second_implementation import rcnn_outputs

from pointrend.cli import main
from pointrend.references import InstanceReference, reference_image
from pointrend.verify import read_reference, verify
from pointrend.zoo import Model
from pointrend.zoo.convert import to_model
from pointrend.zoo.manifest import PUBLISHED

GOLDEN = (
    "d2_rcnn_r50_coco_150x210",
    "d2_rcnn_r50_coco_160x224",
    "d2_rcnn_r101_coco_96x128",
    "d2_rcnn_x101_coco_96x128",
    "d2_rcnn_r50_cityscapes_128x256",
)
Arrays = dict[str, np.ndarray]


def model_name(golden: str) -> str:
    return "-".join(golden.split("_")[:-1])


def failing(model: Model, reference: Any) -> set[str]:
    return {check.name for check in verify(model, reference) if not check.ok}


@pytest.mark.parametrize(
    "golden", [pytest.param(name, marks=pytest.mark.slow) if "x101" in name else name for name in GOLDEN]
)
def test_references(parity: Path, load: Callable[[str], Model], golden: str) -> None:
    checks = verify(load(model_name(golden)), read_reference(parity / "golden" / f"{golden}.npz"))
    assert len(checks) == 9
    assert all(check.ok for check in checks), checks


def test_no_reference_is_left_out(parity: Path) -> None:
    assert {p.stem for p in (parity / "golden").glob("d2_rcnn_*.npz")} == set(GOLDEN)


# Each breaks one thing that conversion or computation could get wrong.
MUTATIONS: dict[str, Callable[[Any], Any]] = {
    "rounded anchors": lambda n: _anchors(n),
    "background last": lambda n: _rolled(n.box_predictor.cls_score),
    "box weights": lambda n: setattr(n.box_coder, "weights", (1.0, 1.0, 1.0, 1.0)),
    "roi levels": lambda n: setattr(n.box_pool, "canonical_size", 112.0),
    "stride in the 3x3": lambda n: _swap_stride(n.backbone.model.layer2[0]),
    "border padding": lambda n: setattr(n.mask_head, "padding", "border"),
}


def _anchors(network: Any) -> None:
    generator = network.rpn.anchor_generator
    generator.cell_anchors = [cell.round() for cell in generator.cell_anchors]


def _rolled(layer: Any) -> None:
    layer.weight.data = layer.weight.data.roll(1, dims=0)
    layer.bias.data = layer.bias.data.roll(1, dims=0)


def _swap_stride(block: Any) -> None:
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


@pytest.mark.parametrize("mutation", sorted(MUTATIONS))
def test_what_is_broken_fails(parity: Path, load: Callable[[str], Model], mutation: str) -> None:
    model = copy.deepcopy(load("d2-rcnn-r50-coco"))
    MUTATIONS[mutation](model.network)
    reference = read_reference(parity / "golden" / "d2_rcnn_r50_coco_150x210.npz")
    assert failing(model, reference)


@pytest.mark.parametrize(
    ("name", "size", "seed"), [("d2-rcnn-r50-coco", (101, 77), 31), ("d2-rcnn-r50-cityscapes", (64, 130), 32)]
)
def test_other_weights_images_and_boxes(
    checkpoint: Callable[[str, str], Arrays], name: str, size: tuple[int, int], seed: int
) -> None:
    tensors = {k: torch.from_numpy(np.asarray(v)) for k, v in checkpoint(name, "another").items()}
    image = torch.from_numpy(reference_image(*size, seed)).permute(2, 0, 1)[None].float()
    height, width = size
    boxes = torch.tensor(
        [[0, 0, width, height], [width - 20.5, height - 3.0, width, height], [10.25, 5.5, 13.25, 50], [30, 20, 60, 41]]
    )
    with torch.inference_mode():
        expected = rcnn_outputs(tensors, image, boxes, torch.tensor([0, 3, 7, 2]))
    reference = InstanceReference(*size, seed=seed, num_points=0, tensors=expected)
    checks = verify(to_model(tensors, PUBLISHED[name]), reference)
    assert all(check.ok for check in checks), checks


def test_older_names_and_the_commands(
    parity: Path, checkpoint: Callable[[str, str], Arrays], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "d2-rcnn-r50-cityscapes"
    older = {
        key.replace("mask_head.coarse_head.fc", "mask_coarse_head.coarse_mask_fc")
        .replace("mask_head.coarse_head", "mask_coarse_head")
        .replace("mask_head.point_head", "mask_point_head"): torch.from_numpy(np.asarray(value))
        for key, value in checkpoint(name, "").items()
    }
    path, out = tmp_path / "older.pth", tmp_path / "ours.safetensors"
    torch.save(older, path)
    reference = parity / "golden" / "d2_rcnn_r50_cityscapes_128x256.npz"
    for arguments in (["convert", path, "--out", out], ["verify", out, "--model", name, "--reference", reference]):
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        assert caught.value.code == 0, capsys.readouterr().err
