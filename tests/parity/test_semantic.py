"""The published semantic models compute what their authors' code computes.

References for weights, seeds and sizes that are not in the folder come from `published_logits`: the same computation
written down a second time, straight from the checkpoint's own names and with nothing of ours.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.cli import main
from pointrend.verify import Reference, read_reference, reference_image, verify
from pointrend.zoo import Model
from pointrend.zoo.convert import identify, read_published, to_model
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


def model_name(golden: str) -> str:
    return "-".join(golden.split("_")[:-2])


@pytest.fixture(scope="session")
def weights(parity: Path) -> ModuleType:
    """The rule that makes stand-ins for trained weights."""
    spec = importlib.util.spec_from_file_location("synthetic_weights", parity / "synthetic_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def checkpoint(parity: Path, weights: ModuleType) -> Callable[[str, str], Arrays]:
    def make(name: str, salt: str) -> Arrays:
        made: Arrays = weights.checkpoint(parity / "keys" / f"{name.replace('-', '_')}.json", salt)
        return made

    return make


@pytest.fixture(scope="session")
def load(checkpoint: Callable[[str, str], Arrays], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """A published model from a file as its toolbox writes it."""

    @cache
    def from_file(name: str) -> Model:
        arrays = checkpoint(name, "")
        folder = tmp_path_factory.mktemp("checkpoint")
        if name.startswith("d2"):
            path = folder / "model_final.pkl"
            path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
        else:
            path = folder / "iter_80000.pth"
            tensors = {k: torch.from_numpy(np.asarray(v)) for k, v in arrays.items()}
            torch.save({"meta": {"CLASSES": ("road",), "iter": np.int64(80000)}, "state_dict": tensors}, path)
        model = read_published(path, PUBLISHED[name])
        path.unlink()
        return model

    return from_file


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
    reference = Reference(*size, seed=seed, num_points=num_points, tensors={"logits": expected[0]})
    checks = verify(to_model(tensors, PUBLISHED[name]), reference)
    assert all(check.ok for check in checks), checks


def published_logits(w: dict[str, Tensor], image: Tensor, *, num_points: int, caffe: bool) -> Tensor:
    """Logits of an image (1, 3, H, W), RGB in 0..255: mmsegmentation's networks, or detectron2's (`caffe`)."""
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    if caffe:
        image = (image - mean).flip(1)
        x = F.pad(image, (0, -image.shape[3] % 32, 0, -image.shape[2] % 32))
    else:
        x = (image - mean) / torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    size = x.shape[2:]
    pyramid = _pyramid(w, _resnet(w, x, caffe=caffe), caffe=caffe)
    coarse = _coarse(w, pyramid, caffe=caffe)
    logits = coarse
    for _ in range(2):
        logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        _, classes, height, width = logits.shape
        best = logits[0].flatten(1).sort(dim=0, descending=True).values
        chosen = (best[1] - best[0]).argsort(descending=True)[: min(num_points, height * width)]
        points = torch.stack(((chosen % width + 0.5) / width, (chosen // width + 0.5) / height), dim=1)[None, None]
        fine, rough = (
            F.grid_sample(m, 2 * points - 1, mode="bilinear", padding_mode="zeros", align_corners=False)[0, :, 0]
            for m in (pyramid[0], coarse)
        )
        logits.view(classes, -1)[:, chosen] = _points(w, fine, rough, caffe=caffe)
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _norm(w: dict[str, Tensor], x: Tensor, name: str) -> Tensor:
    mean, var, scale, shift = (w[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    scale = scale / (var + 1e-5).sqrt()
    return x * scale.view(1, -1, 1, 1) + (shift - mean * scale).view(1, -1, 1, 1)


def _resnet(w: dict[str, Tensor], x: Tensor, *, caffe: bool) -> list[Tensor]:
    if caffe:
        stem = "backbone.bottom_up.stem.conv1"
        x = _norm(w, F.conv2d(x, w[f"{stem}.weight"], stride=2, padding=3), f"{stem}.norm").relu()
    else:
        for conv, stride in ((0, 2), (3, 1), (6, 1)):
            x = F.conv2d(x, w[f"backbone.stem.{conv}.weight"], stride=stride, padding=1)
            x = _norm(w, x, f"backbone.stem.{conv + 1}").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage in range(1, 5):
        block = 0
        while f"{(root := _block(stage, block, caffe=caffe))}.conv1.weight" in w:
            x = _bottleneck(w, x, root, stride=2 if stage > 1 and block == 0 else 1, caffe=caffe)
            block += 1
        maps.append(x)
    return maps


def _block(stage: int, block: int, *, caffe: bool) -> str:
    return f"backbone.bottom_up.res{stage + 1}.{block}" if caffe else f"backbone.layer{stage}.{block}"


def _bottleneck(w: dict[str, Tensor], x: Tensor, root: str, *, stride: int, caffe: bool) -> Tensor:
    norms = [f"{root}.conv{i}.norm" if caffe else f"{root}.bn{i}" for i in (1, 2, 3)]
    strides = (stride, 1) if caffe else (1, stride)
    out = _norm(w, F.conv2d(x, w[f"{root}.conv1.weight"], stride=strides[0]), norms[0]).relu()
    out = _norm(w, F.conv2d(out, w[f"{root}.conv2.weight"], stride=strides[1], padding=1), norms[1]).relu()
    out = _norm(w, F.conv2d(out, w[f"{root}.conv3.weight"]), norms[2])
    short = (f"{root}.shortcut", f"{root}.shortcut.norm") if caffe else (f"{root}.downsample.0", f"{root}.downsample.1")
    if f"{short[0]}.weight" in w:
        x = _norm(w, F.conv2d(x, w[f"{short[0]}.weight"], stride=stride), short[1])
    return (x + out).relu()


def _pyramid(w: dict[str, Tensor], maps: list[Tensor], *, caffe: bool) -> list[Tensor]:
    names = [
        (f"backbone.fpn_lateral{i + 2}", f"backbone.fpn_output{i + 2}")
        if caffe
        else (f"neck.lateral_convs.{i}.conv", f"neck.fpn_convs.{i}.conv")
        for i in range(4)
    ]
    top: Tensor | None = None
    levels = []
    for (lateral, output), m in reversed(list(zip(names, maps, strict=True))):
        inner = F.conv2d(m, w[f"{lateral}.weight"], w[f"{lateral}.bias"])
        top = inner if top is None else inner + F.interpolate(top, size=inner.shape[2:], mode="nearest")
        levels.append(F.conv2d(top, w[f"{output}.weight"], w[f"{output}.bias"], padding=1))
    return levels[::-1]


def _coarse(w: dict[str, Tensor], pyramid: list[Tensor], *, caffe: bool) -> Tensor:
    total: Tensor | None = None
    for level, x in enumerate(pyramid):
        for block in range(max(1, level)):
            if caffe:
                root = f"sem_seg_head.coarse_sem_seg_head.p{level + 2}.{2 * block}"
                x = F.conv2d(x, w[f"{root}.weight"], padding=1)
                x = F.group_norm(x, 32, w[f"{root}.norm.weight"], w[f"{root}.norm.bias"]).relu()
            else:
                root = f"decode_head.0.scale_heads.{level}.{2 * block}"
                x = _norm(w, F.conv2d(x, w[f"{root}.conv.weight"], padding=1), f"{root}.bn").relu()
            if level > 0:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        if total is not None:
            x = total + F.interpolate(x, size=total.shape[2:], mode="bilinear", align_corners=False)
        total = x
    assert total is not None
    last = "sem_seg_head.coarse_sem_seg_head.predictor" if caffe else "decode_head.0.conv_seg"
    return F.conv2d(total, w[f"{last}.weight"], w[f"{last}.bias"])


def _points(w: dict[str, Tensor], fine: Tensor, coarse: Tensor, *, caffe: bool) -> Tensor:
    """fine (D, P), coarse (C, P) -> logits (C, P)."""
    layers = (
        [f"sem_seg_head.point_head.fc{i}" for i in (1, 2, 3)]
        if caffe
        else [f"decode_head.1.fcs.{i}.conv" for i in range(3)]
    )
    last = "sem_seg_head.point_head.predictor" if caffe else "decode_head.1.fc_seg"
    x = torch.cat((fine, coarse))
    for layer in layers:
        x = F.conv1d(x[None], w[f"{layer}.weight"], w[f"{layer}.bias"])[0].relu()
        if not caffe:
            x = torch.cat((x, coarse))
    return F.conv1d(x[None], w[f"{last}.weight"], w[f"{last}.bias"])[0]


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
