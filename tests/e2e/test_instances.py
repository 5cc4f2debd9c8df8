"""Instances from end to end: training on ellipses, resuming, the commands; and the model in the package."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pointrend import Model, list_models, load_model
from pointrend.cli import main
from pointrend.data import find_samples
from pointrend.evaluation import evaluate
from pointrend.recipes import InstanceRecipe
from pointrend.training.loop import Outcome, train_prepared
from pointrend.training.prepare import Training
from pointrend.training.recipe import load_recipe

SETTINGS = [
    "start.weights=none",
    "model.fpn_channels=32",
    "model.mask.channels=32",
    "model.mask.hidden=64",
    "model.mask.point.hidden=32",
    "model.box_hidden=64",
    "data.layout=instance-ids",
    "augment.crop=[160, 160]",
    "augment.scale=[1.4, 1.8]",
    "optim.warmup=10",
    "optim.ema=0.9",
    "optim.backbone_lr=1e-3",
    "train.batch_size=2",
    "train.workers=0",
    "train.precision=32-true",
    "train.save_every=4",
    "train.eval_images=4",
    "test.detection.max_detections=20",
]


def run(blobs: Path, out: Path, settings: list[str], *, resume: bool = False, stop_after: int | None = None) -> Outcome:
    recipe = load_recipe("nuclei-lite0", [*SETTINGS, *settings])
    assert isinstance(recipe, InstanceRecipe)
    found = [find_samples(blobs, task="instance", layout="instance-ids", split=split) for split in ("train", "val")]
    return train_prepared(Training(recipe, found[0], found[1]), out, resume=resume, stop_after=stop_after)


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.slow
def test_it_learns(blobs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = run(blobs, out, ["train.iterations=60", "train.eval_every=60", "train.log_every=10"])
    assert outcome.scores is not None
    with (out / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in rows]
    saved, logged = range(4, 61, 4), range(10, 61, 10)
    assert [int(row["step"]) for row in rows] == sorted({*saved, *logged})
    assert losses[-1] < 0.7 * losses[0]
    assert all(np.isfinite(losses))
    model = load_model(outcome.model)
    assert model.spec.task == "instance"
    assert model.spec.classes[0].name == "object"


@pytest.mark.slow
def test_resumed_is_uninterrupted(blobs: Path, tmp_path: Path) -> None:
    settings = ["train.iterations=8", "train.eval_every=100000"]
    whole = run(blobs, tmp_path / "whole", settings)
    run(blobs, tmp_path / "parts", settings, stop_after=4)
    resumed = run(blobs, tmp_path / "parts", settings, resume=True)
    first, second = (load_file(o.model.parent / "last.safetensors") for o in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_training_command(blobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    sets = [word for setting in [*SETTINGS, "train.iterations=2", "train.eval_every=2"] for word in ("--set", setting)]
    assert command("train", "nuclei-lite0", "--data", blobs, "--out", out, *sets) == 0
    assert "mask AP" in "".join(capsys.readouterr())
    assert command("eval", out / "last.safetensors", blobs / "val", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert list(rows) == ["coarse", "28x28", "224x224"]


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("nuclei-lite0")


def cells(height: int, width: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A fluorescence picture of bright discs on dark, on a grid so that they do not touch; and their ids."""
    random = np.random.default_rng(0)
    columns = int(np.ceil(np.sqrt(count * width / height)))
    rows = -(-count // columns)
    y, x = np.mgrid[:height, :width] + 0.5
    ids = np.zeros((height, width), np.int32)
    for number in range(count):
        step_y, step_x = height / rows, width / columns
        cy, cx = (number // columns + 0.5) * step_y, (number % columns + 0.5) * step_x
        radius = random.uniform(0.2, 0.3) * min(step_y, step_x)
        near = (slice(int(cy - step_y / 2), int(cy + step_y / 2)), slice(int(cx - step_x / 2), int(cx + step_x / 2)))
        ids[near][np.hypot(y[near] - cy, x[near] - cx) < radius] = number + 1
    light = np.where(ids > 0, 150.0, 12.0) + random.normal(0, 4, ids.shape)
    return np.repeat(light.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), ids


def test_the_packaged_model_is_listed() -> None:
    entry = next(entry for entry in list_models() if entry.name == "nuclei-lite0")
    assert entry.task == "instance"
    assert entry.size_bytes <= 20e6
    assert entry.licence
    assert entry.scores["mask_ap"] > entry.scores["coarse_mask_ap"] > 0
    assert entry.scores["boundary_ap"] > entry.scores["coarse_boundary_ap"] > 0


def test_it_finds_cells_and_draws_them_round(model: Model) -> None:
    pixels, ids = cells(256, 256, 25)
    found = model.predict(pixels)
    overlaps = []
    for number in range(1, ids.max() + 1):
        true = ids == number
        index = np.bincount(found.ids[true]).argmax()
        mask = found.ids == index
        overlaps.append((true & mask).sum() / (true | mask).sum() if index else 0.0)
    assert np.mean(overlaps) > 0.85
    assert len(found) <= 27


@pytest.mark.slow
def test_large_images_with_hundreds_of_nuclei_in_one_call(model: Model) -> None:
    pixels, ids = cells(1040, 1388, 300)
    found = model.predict(pixels)
    assert found.ids.shape == (1040, 1388)
    assert abs(len(found) - 300) < 30
    assert ((found.ids > 0) & (ids > 0)).sum() / ((found.ids > 0) | (ids > 0)).sum() > 0.8


def test_the_command_writes_ids_table_and_overlay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels, _ = cells(128, 160, 12)
    Image.fromarray(pixels).save(tmp_path / "cells.png")
    out = tmp_path / "out"
    assert command("predict", tmp_path / "cells.png", "--model", "nuclei-lite0", "--out", out) == 0
    said = capsys.readouterr().out
    with (out / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert f"nucleus {len(rows)}" in said
    assert all(float(row["score"]) > 0.5 for row in rows)
    with Image.open(out / "cells.png") as image:
        ids = np.asarray(image)
    assert ids.dtype == np.uint16
    assert set(np.unique(ids)) - {0} <= {int(row["id"]) for row in rows}
    highest = max(row["score"] for row in rows)
    assert command("predict", tmp_path / "cells.png", "--model", "nuclei-lite0", "--out", out, "--score", highest) == 0
    with (out / "cells.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) < len(rows)
    for options in (["--adaptive"], ["--dense"]):
        again = tmp_path / options[0]
        assert command("predict", tmp_path / "cells.png", "--model", "nuclei-lite0", "--out", again, *options) == 0
        with Image.open(again / "cells.png") as image:
            assert (np.asarray(image) != ids).mean() < 0.01
    assert command("predict", tmp_path / "cells.png", "--model", "nuclei-lite0", "--out", out, "--explain") == 2
    assert command("predict", tmp_path / "cells.png", "--out", out, "--score", "0.5") == 2


def test_each_row_is_scored_by_its_own_masks(model: Model, tmp_path: Path) -> None:
    """The truth is what the model renders last, so that row is perfect, and those before are not."""
    pixels, _ = cells(128, 160, 12)
    for folder, image in (("images", pixels), ("labels", model.predict(pixels).ids)):
        (tmp_path / folder).mkdir()
        Image.fromarray(image).save(tmp_path / folder / "cells.png")
    samples = find_samples(tmp_path, task="instance", layout="nuclei")
    rows = evaluate(model, samples, boundary_ratio=0.005).rows  # bands of one pixel
    assert list(rows) == ["coarse", "28x28", "224x224"]
    assert rows["224x224"]["mask_ap"] > 99
    assert rows["coarse"]["mask_ap"] < rows["224x224"]["mask_ap"] - 1
    coarse, start, last = (row["boundary_ap"] for row in rows.values())
    assert coarse < start - 1 < last - 2
    assert len({row["box_ap"] for row in rows.values()}) == 1


@pytest.mark.slow
def test_on_real_nuclei_rendering_beats_the_coarse_masks(model: Model, test_data: Path) -> None:
    """The card says how much; this is a part of the images."""
    samples = find_samples(test_data / "nuclei" / "val", task="instance", layout="nuclei")
    rows = evaluate(model, samples, limit=12).rows
    coarse, last = rows["coarse"], rows["224x224"]
    assert last["mask_ap50"] > 75
    assert last["mask_ap"] > coarse["mask_ap"]
    assert last["boundary_ap"] > coarse["boundary_ap"]
