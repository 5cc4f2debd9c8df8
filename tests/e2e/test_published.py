"""A published model from its name to an overlay, with weights of the published names and shapes from a local server."""

from __future__ import annotations

import hashlib
import json
import pickle
import runpy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from publishing import Publish, local_server
from torch import Tensor

from pointrend.cli import main
from pointrend.data.classes import CITYSCAPES
from pointrend.models import SemanticPointRend
from pointrend.zoo.manifest import PUBLISHED
from pointrend.zoo.modelfile import network_of

SMALL = ["--size", "64", "--points", "300"]
"""The models' own sizes take a minute on a CPU."""


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publish]:
    yield from local_server(tmp_path, monkeypatch)


@pytest.fixture
def street(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 8, 3), np.uint8))
    coarse.resize((160, 100), Image.Resampling.BICUBIC).save(tmp_path / "street.jpg")
    return tmp_path / "street.jpg"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(str(ended.value.code))


def check_results(out: Path, size: tuple[int, int]) -> np.ndarray:
    """Three files, in the colours and by the names of Cityscapes; gives the labels."""
    assert {path.name for path in out.iterdir()} == {"street.png", "street_overlay.png", "street.json"}
    picture = Image.open(out / "street.png")
    labels = np.asarray(picture)
    assert labels.shape == size
    assert labels.max() < len(CITYSCAPES)
    palette = picture.getpalette()
    assert palette is not None
    assert palette[: 3 * len(CITYSCAPES)] == [value for c in CITYSCAPES for value in c.color]
    assert Image.open(out / "street_overlay.png").size[0] >= size[1]
    summary = json.loads((out / "street.json").read_text())
    assert {c["index"]: c["name"] for c in summary["classes"]} == {
        int(index): CITYSCAPES[index].name for index in np.unique(labels)
    }
    return labels


def test_from_download_to_overlay(
    publish: Publish,
    as_mmsegmentation: Callable[[SemanticPointRend], dict[str, Tensor]],
    street: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "mmseg-r50-cityscapes"
    torch.manual_seed(0)
    state = as_mmsegmentation(network_of(PUBLISHED[name].spec))
    file = publish(name, lambda path: torch.save({"meta": {}, "state_dict": state}, path))
    assert run("predict", street, "--model", name, "--out", tmp_path / "out", *SMALL) == 0
    labels = check_results(tmp_path / "out", (100, 160))
    assert "1 of 1 done" in capsys.readouterr().out

    # Now without the server; and from the file itself, in one command.
    kept = tmp_path / "checkpoint.pth"
    file.rename(kept)
    for index, model in enumerate((name, kept)):
        out = tmp_path / f"again{index}"
        assert run("predict", street, "--model", model, "--out", out, *SMALL) == 0
        np.testing.assert_array_equal(check_results(out, (100, 160)), labels)

    # A file that is damaged in the cache is noticed and replaced.
    cached = tmp_path / "home" / kept.with_name(PUBLISHED[name].file).name
    cached.write_bytes(cached.read_bytes()[:-1])
    capsys.readouterr()
    assert run("predict", street, "--model", name, "--out", tmp_path / "more", *SMALL) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"pointrend: error: {cached}: not the published file: its SHA-256 is ")
    assert said.count("\n") == 1
    assert run("predict", street, "--model", name, "--out", tmp_path / "more", *SMALL) == 1
    assert f"and put it at {cached}" in capsys.readouterr().err  # it is not on the server any more


@pytest.mark.parametrize(
    "name", ["mmseg-r50-cityscapes", pytest.param("d2-semantic-r101-cityscapes", marks=pytest.mark.slow)]
)
def test_published_names_and_shapes(
    name: str,
    parity: Path,
    publish: Publish,
    street: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the names and shapes of the published files themselves, and detectron2's kind of file."""
    rule = runpy.run_path(str(parity / "synthetic_weights.py"))
    weights: Mapping[str, np.ndarray] = rule["checkpoint"](parity / "keys" / f"{name.replace('-', '_')}.json")

    def write(path: Path) -> None:
        if path.suffix == ".pkl":
            with path.open("wb") as file:
                pickle.dump({"model": weights, "__author__": "tests"}, file)
        else:
            torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in weights.items()}}, path)

    file = publish(name, write)
    assert file.stat().st_size >= PUBLISHED[name].weight_bytes
    assert run("predict", street, "--model", name, "--out", tmp_path / "out", *SMALL) == 0
    check_results(tmp_path / "out", (100, 160))
    pinned = hashlib.sha256(file.read_bytes()).hexdigest() in capsys.readouterr().err
    assert pinned == (PUBLISHED[name].sha256 is None)


def test_models_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("POINTREND_HOME", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "80")
    assert run("models") == 0
    lines = capsys.readouterr().out.splitlines()
    for name in PUBLISHED:
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert "download" in line
        assert len(line) <= 80
    assert lines[-1].endswith(f"{tmp_path / 'models'}.")
    assert run("models", "--json") == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert listed["mmseg-r101-ade20k"] == {
        "name": "mmseg-r101-ade20k",
        "task": "semantic",
        "data": "ADE20K",
        "licence": "Apache-2.0",
        "size_bytes": 191952200,
        "scores": {"miou": 40.02, "miou_ms_flip": 41.6},
        "source": "download",
    }
