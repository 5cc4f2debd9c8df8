"""Frames per second, peak memory, and the row of the published tables."""

from __future__ import annotations

import itertools
import json
import math
import mmap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import pointrend.evaluation.speed as speed_module
import pointrend.zoo
from pointrend.cli import main
from pointrend.data import find_samples
from pointrend.errors import PointRendError
from pointrend.evaluation import Evaluation, Speed, measure_speed, published_row
from pointrend.peak import peak, reset_peak
from pointrend.spec import TrainingFacts
from pointrend.timing import Spread
from pointrend.zoo import Model


@pytest.fixture
def model(color_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> Model:
    made = color_model()
    monkeypatch.setattr(pointrend.zoo, "load_model", lambda name, **settings: made)
    return made


@pytest.fixture
def split(tmp_path: Path, color_image: Callable[..., np.ndarray]) -> Path:
    root = tmp_path / "val"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for index in range(4):
        pixels = color_image(40, 50)
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        Image.fromarray(pixels.argmax(axis=2).astype(np.uint8)).save(root / "labels" / f"{index}.png")
    (root / "classes.json").write_text(json.dumps(["background", "green", "blue"]))
    return root


def test_the_median_after_warm_up_counts(model: Model, split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The time is asked for once by each of 3 predictions to warm up, and twice by the others of 1, 2, 4 and 5 s.
    steps = [100, 100, 100, 0, 1, 0, 2, 0, 4, 0, 5]
    clock = SimpleNamespace(perf_counter=itertools.accumulate(steps).__next__)
    monkeypatch.setattr(speed_module, "time", clock)
    heard: list[tuple[int, int]] = []
    found = measure_speed(model, find_samples(split, task="semantic"), progress=lambda *told: heard.append(told))
    assert found.seconds == Spread(3.0, 1.75, 4.25)
    assert found.fps == pytest.approx(1 / 3)
    assert (found.images, found.device, found.threads) == (4, "cpu", torch.get_num_threads())
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert found.memory_of == "process"
    assert found.peak_memory is not None
    assert found.peak_memory > 50e6
    assert "0.33 frames per second (quartiles 0.24 to 0.57), 4 images on cpu" in str(found)
    assert found.to_dict()["fps"] == found.fps


def test_devices_are_waited_for_before_and_after(model: Model, split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(speed_module, "synchronize", lambda device: waited.append(device.type))
    measure_speed(model, find_samples(split, task="semantic"), limit=2)
    assert waited == ["cpu"] * 2 * (3 + 2)


def test_the_peak_is_that_since_the_reset() -> None:
    cpu = torch.device("cpu")
    reset_peak(cpu)
    before = peak(cpu)
    with mmap.mmap(-1, 160_000_000) as held:  # not from memory that the process freed before
        held.write(bytes(160_000_000))
        during = peak(cpu)
    assert before is not None
    assert during is not None
    assert 150e6 < during.bytes - before.bytes < 400e6


def scores(miou: float, coarse: float = 10.0) -> Evaluation:
    rows = {"coarse": {"miou": coarse}, "pointrend": {"miou": miou}}
    return Evaluation(rows, ("a", "b"), 3, None, {"miou": "mIoU"}, {})


def test_a_row_has_the_published_columns(model: Model) -> None:
    empty = published_row(model.spec, scores(math.nan))
    assert empty.cells == {
        "Method": "PointRend (colors)",
        "Backbone": "none",
        "Crop size": "-",
        "Lr schd": "-",
        "Mem (GB)": "-",
        "Inf time (fps)": "-",
        "mIoU": "-",
        "mIoU(ms+flip)": "-",
    }
    facts = TrainingFacts(crop=(512, 1024), iterations=80000, peak_memory=3_140_000_000)
    spec = model.spec.model_copy(update={"training": facts})
    speed = Speed(Spread(0.125, 0.1, 0.2), 5, "cuda:0", 2, 10**9, "device")
    row = published_row(spec, scores(76.466), augmented=scores(78.13), speed=speed)
    assert list(row.cells.values())[2:] == ["512x1024", "80000", "3.1", "8.00", "76.47", "78.13"]
    first, second = row.text().splitlines()
    assert first.index("Lr schd") == second.index("80000")
    assert row.markdown().splitlines()[2] == (
        "| PointRend (colors) | none | 512x1024 | 80000 | 3.1 | 8.00 | 76.47 | 78.13 |"
    )


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command(model: Model, split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("eval", "colors", split, "--fps", "--row", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["row"]["mIoU"] == f"{printed['rows']['pointrend']['miou']:.2f}"
    assert printed["row"]["Inf time (fps)"] == f"{printed['speed']['fps']:.2f}"
    assert printed["speed"]["images"] == 4
    assert run("eval", "colors", split, "--row") == 0
    shown = capsys.readouterr().out
    assert "| Method | Backbone | Crop size |" in shown
    assert "frames per second" not in shown


def test_results_files_have_no_speed(tmp_path: Path, split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.json").write_text("[]")
    assert run("eval", tmp_path / "results.json", split, "--fps") == 2
    assert "--fps: for models, and " in capsys.readouterr().err


def test_a_split_without_images_has_no_speed(model: Model, split: Path) -> None:
    samples = find_samples(split, task="semantic")
    with pytest.raises(PointRendError, match="no images to measure speed with"):
        measure_speed(model, replace(samples, samples=()))
