"""The published semantic models compute what their authors' code computes.

References for weights, seeds and sizes that are not in the folder come from `second_implementation`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from second_implementation import published_logits

from pointrend.cli import main
from pointrend.references import SemanticReference, reference_image
from pointrend.verify import read_reference, verify
from pointrend.zoo import Model
from pointrend.zoo.convert import identify, to_model
from pointrend.zoo.manifest import PUBLISHED

GOLDEN = (
    "mmseg_r50_cityscapes_64x128_n300",
    "mmseg_r50_cityscapes_64x128_n8196",
    "mmseg_r50_cityscapes_75x101_n300",
    "mmseg_r101_cityscapes_64x96_n200",
    "mmseg_r50_ade20k_64x64_n200",
    "mmseg_r101_ade20k_48x64_n200",
    "d2_semantic_r101_cityscapes_64x96_n8192",
    "d2_semantic_r101_cityscapes_70x100_n300",
    "d2_semantic_r101_cityscapes_96x128_n300",
)


Arrays = dict[str, np.ndarray]


def model_name(golden: str) -> str:
    return "-".join(golden.split("_")[:-2])


@pytest.mark.parametrize("golden", GOLDEN)
def test_references(parity: Path, load: Callable[[str], Model], golden: str) -> None:
    checks = verify(load(model_name(golden)), read_reference(parity / "golden" / f"{golden}.npz"))
    assert len(checks) == (3 if golden.startswith("d2") else 5)
    assert all(check.ok for check in checks), checks


def test_no_reference_is_left_out(parity: Path) -> None:
    semantic = {p.stem for p in (parity / "golden").glob("*.npz") if "semantic" in p.stem or "mmseg" in p.stem}
    assert semantic == set(GOLDEN)


def test_images(weights: ModuleType) -> None:
    for size in ((64, 96), (75, 101), (33, 20)):
        assert np.array_equal(reference_image(*size, 5), weights.image(*size, 5))


def test_weights_are_recognised(parity: Path, weights: ModuleType) -> None:
    for name in PUBLISHED:
        if name == "d2-rcnn-r50-coco-1x":  # the tensors of the 3x model
            continue
        shapes = json.loads((parity / "keys" / f"{name.replace('-', '_')}.json").read_text())
        assert identify({key: torch.zeros(shape) for key, shape in shapes.items()}) in ([name], [name, f"{name}-1x"])


# Each breaks one thing that conversion or computation could get wrong.
MUTATIONS: dict[str, Callable[[Model], Any]] = {
    "coarse norm": lambda m: setattr(m.network.coarse_head.levels[1][0][1], "num_groups", 16),
    "stem norm": lambda m: setattr(m.network.backbone.model.bn1, "eps", 100.0),
    "stride": lambda m: _swap_stride(m.network.backbone.model.layer2[0]),
}


def _swap_stride(block: Any) -> None:
    block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


@pytest.mark.parametrize("mutation", sorted(MUTATIONS))
def test_what_is_broken_fails(parity: Path, load: Callable[[str], Model], mutation: str) -> None:
    name = "d2-semantic-r101-cityscapes"
    model = copy.deepcopy(load(name))
    MUTATIONS[mutation](model)
    reference = read_reference(parity / "golden" / f"{name.replace('-', '_')}_96x128_n300.npz")
    assert not all(check.ok for check in verify(model, reference))


@pytest.mark.parametrize(
    ("name", "size", "seed", "num_points"),
    [
        ("mmseg-r50-cityscapes", (50, 83), 21, 111),
        ("mmseg-r50-ade20k", (97, 65), 22, 150),
        ("d2-semantic-r101-cityscapes", (61, 77), 23, 120),
    ],
)
def test_other_weights_seeds_and_sizes(
    checkpoint: Callable[[str, str], Arrays], name: str, size: tuple[int, int], seed: int, num_points: int
) -> None:
    tensors = {k: torch.from_numpy(np.asarray(v)) for k, v in checkpoint(name, "another").items()}
    image = torch.from_numpy(reference_image(*size, seed)).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        expected = published_logits(tensors, image, num_points=num_points, caffe=name.startswith("d2"))
    reference = SemanticReference(*size, seed=seed, num_points=num_points, tensors={"logits": expected[0]})
    checks = verify(to_model(tensors, PUBLISHED[name]), reference)
    assert all(check.ok for check in checks), checks


def test_the_commands(
    parity: Path, checkpoint: Callable[[str, str], Arrays], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "mmseg-r50-cityscapes"
    path, out = tmp_path / "published.pth", tmp_path / "ours.safetensors"
    torch.save({k: torch.from_numpy(np.asarray(v)) for k, v in checkpoint(name, "").items()}, path)
    reference = parity / "golden" / "mmseg_r50_cityscapes_64x128_n300.npz"
    for arguments in (
        ["convert", str(path), "--model", name, "--out", str(out)],
        ["verify", str(path), "--model", name, "--reference", str(reference)],
        ["verify", str(out), "--model", name, "--reference", str(reference)],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0, capsys.readouterr().err
    wrong = ["verify", str(path), "--model", "mmseg-r101-cityscapes", "--reference", str(reference)]
    with pytest.raises(SystemExit) as caught:
        main(wrong)
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert f"are those of {name}, not of mmseg-r101-cityscapes" in error
    assert len(error.strip().splitlines()) == 1
