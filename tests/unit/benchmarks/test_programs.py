"""The programs beside the benchmark run: the baseline trains and is scored, masks are compared by size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import maskrcnn_baseline, masks_by_size
from pointrend.tasks import TASKS
from pointrend.zoo.modelfile import read_spec


@pytest.fixture
def nuclei(tmp_path: Path) -> Path:
    """Two discs in each of two images a split."""
    y, x = np.mgrid[:64, :64]
    for split in ("train", "val"):
        for name in ("images", "labels"):
            (tmp_path / split / name).mkdir(parents=True)
        for index in range(2):
            ids = (np.hypot(x - 20, y - 20) < 9).astype(np.uint16) + 2 * (np.hypot(x - 44, y - 40 - index) < 11)
            light = np.where(ids > 0, 150, 12).astype(np.uint8)
            Image.fromarray(np.repeat(light[..., None], 3, axis=2)).save(tmp_path / split / "images" / f"{index}.png")
            Image.fromarray(ids.astype(np.uint16)).save(tmp_path / split / "labels" / f"{index}.png")
    return tmp_path


def test_the_baseline_trains_by_the_recipe_and_is_scored(
    nuclei: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(maskrcnn_baseline, "keep_freed_memory", lambda: None)  # this process has other tests to run
    monkeypatch.setitem(TASKS, maskrcnn_baseline.TASK, TASKS["instance"])  # which puts the table back afterwards
    out = nuclei / "out"
    settings = [
        "start.weights=none",
        "augment.crop=[64, 64]",
        "train.iterations=1",
        "train.batch_size=1",
        "train.workers=0",
        "train.precision=32-true",
    ]
    monkeypatch.setattr(sys, "argv", ["", "train", str(nuclei), str(out), *settings])
    maskrcnn_baseline.main()
    spec = read_spec(out / "last.safetensors")
    assert (spec.name, spec.task, spec.num_logits) == ("maskrcnn-lite0", "maskrcnn", 1)
    monkeypatch.setattr(sys, "argv", ["", "eval", str(nuclei), str(out)])
    maskrcnn_baseline.main()
    content = json.loads((out / "scores.json").read_text())
    assert content == json.loads(capsys.readouterr().out)
    assert content["images"] == 2
    assert list(content["rows"]) == ["torchvision", "pasted by area"]
    assert {"mask_ap", "boundary_ap", "mean_f1"} <= content["rows"]["torchvision"].keys()


def test_masks_by_size(nuclei: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["", "nuclei-lite0", str(nuclei / "val")])
    masks_by_size.main()
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| size in pixels | nuclei | coarse | 28x28 | 224x224 | last minus 28x28 |"
    every = rows[-1].split(" | ")
    assert every[:2] == ["| all", "4"]
    assert 60 < float(every[2]) < float(every[4]) < 100
