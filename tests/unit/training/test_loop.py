"""What a training writes, on a few iterations of a small network."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from pointrend import tasks
from pointrend.data import SemanticBatch, find_samples
from pointrend.objectives.semantic import SemanticLosses, SemanticObjective
from pointrend.training import batches
from pointrend.training.log import read_log
from pointrend.training.loop import Outcome, _Clock, _Step, _step_seed, train_prepared
from pointrend.training.prepare import Training
from pointrend.training.recipe import RecipeError, load_recipe
from pointrend.training.state import Run

SETTINGS = [
    "model.backbone=test_efficientnet",
    "start.weights=none",
    "model.fpn_channels=8",
    "model.coarse_channels=8",
    "model.point.hidden=8",
    "data.layout=folder",
    "augment.crop=[32, 32]",
    "loss.sampling.num_points=64",
    "loss.class_balance=0",
    "optim.lr=0.01",
    "optim.warmup=0",
    "train.batch_size=2",
    "train.workers=0",
    "train.precision=32-true",
    "test.shortest=32",
    "test.longest=32",
]
State = dict[str, Tensor]


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Outcome]:
    """Trains for three iterations into tmp_path/run and evaluates after the last."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (tmp_path / split / folder).mkdir(parents=True)
        for index in range(2):
            labels = (np.add.outer(np.arange(40), np.arange(40)) > 40).astype(np.uint8)
            pixels = (60 + 100 * labels[..., None] + random.integers(0, 40, (40, 40, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / "images" / f"{index}.png")
            Image.fromarray(labels + index).save(tmp_path / split / "labels" / f"{index}.png")
    (tmp_path / "classes.json").write_text(json.dumps(["dark", "light", "other"]))
    samples = [find_samples(tmp_path, task="semantic", layout="folder", split=split) for split in ("train", "val")]

    def run(*settings: str, resume: bool = False, stop_after: int | None = None) -> Outcome:
        recipe = load_recipe("people-lite0", [*SETTINGS, "train.iterations=3", "train.eval_every=3", *settings])
        training = Training(recipe, samples[0], samples[1])
        return train_prepared(training, tmp_path / "run", resume=resume, stop_after=stop_after)

    return run


def after_each(train: Callable[..., Outcome], out: Path, setting: str) -> list[State]:
    """Train in three parts, and return the weights that were trained, after each iteration."""
    states: list[State] = []
    for done in (1, 2, 3):
        train(setting, resume=done > 1, stop_after=done)
        states.append(torch.load(out / "last.pt", weights_only=True)["network"])
    return states


def test_models_hold_the_averaged_weights(train: Callable[..., Outcome], tmp_path: Path) -> None:
    first, second, third = after_each(train, tmp_path / "run", "optim.ema=0.2")
    for name in ("last.safetensors", "best.safetensors"):
        found = load_file(tmp_path / "run" / name)
        assert found.keys() == third.keys()
        differ = 0
        for key, value in found.items():
            if not value.is_floating_point():
                continue
            average = first[key]
            for decay, newer in ((2 / 11, second[key]), (0.2, third[key])):  # the second would be 3 / 12
                average = decay * average + (1 - decay) * newer
            torch.testing.assert_close(value, average, msg=f"{name}: {key}")
            differ += not torch.allclose(value, third[key])
        assert differ > 20  # the weights that were trained are others


def test_without_an_average_models_hold_the_weights_that_were_trained(
    train: Callable[..., Outcome], tmp_path: Path
) -> None:
    train("optim.ema=0")
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert state["average"] is None
    for name in ("last.safetensors", "best.safetensors"):
        found = load_file(tmp_path / "run" / name)
        assert all(torch.equal(value, state["network"][key]) for key, value in found.items())


def test_the_log_has_a_row_an_iteration_and_a_resumed_one_goes_on(
    train: Callable[..., Outcome], tmp_path: Path
) -> None:
    after_each(train, tmp_path / "run", "train.log_every=1")
    with (tmp_path / "run" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert all(float(row[name]) > 0 for row in rows for name in ("loss", "loss_coarse", "loss_points", "lr"))
    assert all(0 < float(row["data_wait"]) < 1 for row in rows)
    evaluated = ["val/coarse/miou", "val/pointrend/miou"]
    assert [[bool(row[name]) for name in evaluated] for row in rows] == [[False] * 2] * 2 + [[True] * 2]
    # What was logged after the state that is resumed from is dropped: those iterations are done again.
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    with (tmp_path / "run" / "log.csv").open("a") as file:
        file.write(",".join("7" for _ in rows[0]) + "\n")
    train("train.log_every=1", resume=True)
    with (tmp_path / "run" / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert state["iteration"] == 3


def test_what_the_recipe_freezes_stays_as_it_starts(train: Callable[..., Outcome], tmp_path: Path) -> None:
    def changed(before: State, after: State) -> set[str]:
        return {key for key in before if not torch.equal(before[key], after[key])}

    states: list[State] = []
    for done in (1, 3):
        train("start.freeze_stages=2", "start.freeze_norm=true", resume=done > 1, stop_after=done)
        states.append(torch.load(tmp_path / "run" / "last.pt", weights_only=True)["network"])
    moved = changed(*states)
    stages = ("backbone.model.conv_stem.", "backbone.model.blocks.0.")
    norms = {key.removesuffix("running_mean") for key in states[0] if key.endswith("running_mean")}
    frozen = {f"{norm}{name}" for norm in norms if norm.startswith("backbone.") for name in ("weight", "running_mean")}
    assert len(frozen) > 10
    assert not moved & frozen
    assert not [key for key in moved if key.startswith(stages)]
    assert [key for key in states[0] if key.startswith(stages)]
    assert [key for key in moved if key.startswith("backbone.model.blocks.1.")]


def test_pictures_are_drawn_at_each_evaluation_and_at_a_stop(train: Callable[..., Outcome], tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("train.eval_every=2", "train.iterations=4", stop_after=1)
    assert (run / "curves.png").is_file()
    assert not (run / "samples").exists()
    (run / "curves.png").unlink()
    train("train.eval_every=2", "train.iterations=4", resume=True)
    assert (run / "curves.png").is_file()
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["000002.png", "000004.png"]
    assert [start["iteration"] for start in json.loads((run / "run.json").read_text())["starts"]] == [0, 1]


@pytest.mark.parametrize("rank", [0, 3])
def test_every_process_draws_by_its_own_rank(
    train: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    """Augmentations, points and dropout of the processes would else be the same."""
    seeds: list[tuple[int, int]] = []
    ranks: list[int] = []

    class Sampler(batches.IterationBatchSampler):
        def __init__(self, *arguments: Any, rank: int, **more: Any) -> None:
            ranks.append(rank)
            super().__init__(*arguments, rank=0, **more)

    class Objective(SemanticObjective):
        def forward(self, batch: SemanticBatch, seed: int) -> SemanticLosses:
            seeds.append((seed, torch.initial_seed()))
            return super().forward(batch, seed)

    monkeypatch.setattr(Fabric, "global_rank", property(lambda self: rank))
    monkeypatch.setattr(batches, "IterationBatchSampler", Sampler)
    monkeypatch.setattr(Run, "evaluates_now", lambda self: False)
    monkeypatch.setattr(tasks, "SemanticObjective", Objective)
    train("train.seed=5", "train.eval_every=100")
    expected = [_step_seed(5, iteration, rank) for iteration in range(3)]
    assert seeds == [(seed, seed) for seed in expected]
    assert ranks == [rank]


def test_seeds_differ_by_process_iteration_and_seed() -> None:
    seeds = [_step_seed(seed, iteration, rank) for seed in (0, 1) for iteration in range(20) for rank in range(4)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)  # what torch.manual_seed takes
    assert _step_seed(3, 5, 1) == _step_seed(3, 5, 1)


@pytest.mark.parametrize("average", ["labelled", "all"])
def test_parts_of_a_batch_add_up_to_it(
    train: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: str
) -> None:
    """With norms that no other image changes, and the same points in every part."""
    monkeypatch.setattr(
        "pointrend.objectives.semantic.training_points",
        lambda logits, *_, **__: torch.rand(9, 2, generator=torch.Generator().manual_seed(0)).expand(len(logits), 9, 2),
    )
    if average == "all":
        labels = np.zeros((40, 40), np.uint8)
        labels[:17] = 255
        Image.fromarray(labels).save(tmp_path / "train" / "labels" / "0.png")
    still = [
        "start.freeze_norm=true",
        "model.coarse_norm=group",
        "model.coarse_channels=32",
        "augment.crop=[64, 64]",
        "augment.base_scale=2",
        "augment.scale=[1, 1]",
        "test.shortest=64",
        "test.longest=64",
        "model.point.normalize=false",
        "optim.name=sgd",
    ]
    states = []
    for parts in (1, 2):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        train(*still, f"loss.average={average}", f"train.accumulate={parts}", "optim.ema=0")
        states.append(torch.load(tmp_path / "run" / "last.pt", weights_only=True)["network"])
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-4, atol=1e-6, msg=f"{name} differs")


def test_parts_weigh_as_much_as_they_have_labels() -> None:
    """A part without labels does not count, and one with twice the labels counts twice."""
    labels = torch.full((1, 4, 4), 255)
    step = _Step.__new__(_Step)
    step._plain = SimpleNamespace(counted=lambda batch: (batch != 255).sum())
    some, twice = labels.clone(), labels.clone()
    some[:, 0], twice[:, :2] = 1, 1
    assert step._weights([labels, some, twice]) == [0.0, pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert step._weights([labels]) == [1.0]


def test_a_batch_that_processes_and_parts_cannot_share_is_refused(train: Callable[..., Outcome]) -> None:
    with pytest.raises(
        RecipeError,
        match=r"train.batch_size must be a multiple of the 1 process times train.accumulate=4, got 2",
    ):
        train("train.accumulate=4")


def test_the_share_of_waiting_is_of_the_time_since_the_last_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 4.0, 8.0, 8.0, 10.0, 10.0])
    monkeypatch.setattr("pointrend.training.loop.time.monotonic", lambda: next(now))
    clock = _Clock(6)
    with clock.waiting():  # from 1 to 4
        pass
    clock.tick()
    assert clock.numbers() == {"images_per_second": 6 / 8, "data_wait": 3 / 8}
    assert clock.numbers() == {"images_per_second": 0, "data_wait": 0}


def test_sigterm_at_an_evaluation_saves_first_and_the_resumed_training_evaluates(
    train: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = ("train.iterations=4", "train.eval_every=2", "train.log_every=1")
    whole = train(*every)
    rows = read_log(tmp_path / "run" / "log.csv")
    shutil.move(tmp_path / "run", tmp_path / "whole")
    for stops_at in (2, 4):
        count = iter(range(1 if stops_at == 2 else 3, 9))

        @contextmanager
        def stopping(_: torch.device, count: Iterator[int] = count, at: int = stops_at) -> Iterator[Callable[[], bool]]:
            yield lambda: next(count) == at

        with monkeypatch.context() as patched:
            patched.setattr("pointrend.training.loop.sigterm_noticed", stopping)
            stopped = train(*every, resume=stops_at == 4)
        assert stopped.stopped
        assert stopped.iteration == stops_at
        assert [row["step"] for row in read_log(tmp_path / "run" / "log.csv")] == list(range(1, stops_at))
    resumed = train(*every, resume=True)
    assert not resumed.stopped
    assert resumed.scores is not None
    assert whole.scores is not None
    assert resumed.scores.rows == whole.scores.rows
    timing = {"images_per_second", "data_wait", "peak_memory_gb"}
    again = read_log(tmp_path / "run" / "log.csv")
    assert [{k: v for k, v in row.items() if k not in timing} for row in again] == [
        {k: v for k, v in row.items() if k not in timing} for row in rows
    ]
    ends = [torch.load(tmp_path / folder / "last.pt", weights_only=True) for folder in ("whole", "run")]
    assert ends[0]["best"] == ends[1]["best"]
    assert ends[1]["owed"] is None


def test_the_scale_of_half_precision_goes_on(
    train: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[dict[str, Any]] = []  # CPUs have no such scale, so that of a GPU is played
    monkeypatch.setattr(MixedPrecision, "state_dict", lambda _: {"scale": 64.0, "growth_factor": 2.0})
    monkeypatch.setattr(MixedPrecision, "load_state_dict", lambda _, state: loaded.append(state))
    half = ("train.precision=bf16-mixed", "train.iterations=2", "train.eval_every=9")
    train(*half, stop_after=1)
    assert loaded == []
    train(*half, resume=True)
    assert loaded == [{"scale": 64.0, "growth_factor": 2.0}]
