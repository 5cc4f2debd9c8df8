"""Trainings start under every start method, from other models' weights, and go on with other harmless settings."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from people_files import write_coco, write_labels
from small_recipe import SMALL
from torch.utils.data import DataLoader

from pointrend.training.checkpoint import CheckpointError
from pointrend.training.loop import Outcome, train_prepared
from pointrend.training.prepare import Training, prepare
from pointrend.training.recipe import RecipeError, load_recipe
from pointrend.zoo.load import load_model

SETTINGS = (*SMALL, "train.iterations=4", "train.eval_every=100")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "data", lambda mask: mask.astype(np.uint8))


def prepared(data: Path, *settings: str) -> Training:
    return prepare(load_recipe("people-lite0", [*SETTINGS, *settings]), data)


def network_in(out: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(out / "last.pt", weights_only=True)["network"]
    return state


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("layout", ["coco", "folder"])
def test_workers_start_under_every_start_method(tmp_path: Path, method: str, layout: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    if layout == "coco":
        training = prepare(load_recipe("nuclei-lite0", ["data.layout=coco"]), write_coco(tmp_path))
    else:
        training = prepared(write_labels(tmp_path, lambda mask: mask.astype(np.uint8)))
    dataset = training.dataset()
    pickle.dumps(dataset)
    if layout == "coco" and method == "forkserver":
        return  # as good as spawn, and each takes seconds
    loader = DataLoader(
        dataset,
        batch_sampler=[[(0, 1), (1, 2)]],
        num_workers=1,
        multiprocessing_context=method,
        collate_fn=training.task.collate,
    )
    (batch,) = loader
    expected = training.task.collate([dataset[(0, 1)], dataset[(1, 2)]])
    assert torch.equal(batch.images, expected.images)


def test_a_training_goes_on_with_other_workers_and_more_iterations(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_prepared(prepared(data, "train.iterations=2"), out)
    changed = ("train.workers=1", "train.log_every=1", "train.save_every=1", "description=longer")
    outcome = train_prepared(prepared(data, "train.iterations=4", *changed), out, resume=True)
    assert outcome.iteration == 4
    assert "iterations: 4" in (out / "recipe.yaml").read_text()
    with pytest.raises(CheckpointError, match=r"has done 4 iterations; train\.iterations must be at least that, got 3"):
        train_prepared(prepared(data, "train.iterations=3"), out, resume=True)
    with pytest.raises(CheckpointError, match=r"other settings \(train\.seed\)"):
        train_prepared(prepared(data, "train.seed=3"), out, resume=True)


def test_other_workers_change_no_weight(data: Path, tmp_path: Path) -> None:
    train_prepared(prepared(data), tmp_path / "whole")
    train_prepared(prepared(data, "train.save_every=2"), tmp_path / "parts", stop_after=2)
    train_prepared(prepared(data, "train.workers=1", "train.log_every=1"), tmp_path / "parts", resume=True)
    whole, parts = network_in(tmp_path / "whole"), network_in(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_what_a_killed_program_left_is_removed(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".pointrend-abc.pt").write_bytes(b"half")
    (out / "mine.txt").write_text("kept")
    train_prepared(prepared(data, "train.iterations=1"), out)
    assert not list(out.glob(".pointrend-*"))
    assert (out / "mine.txt").exists()


def started(data: Path, out: Path, *settings: str) -> Outcome:
    still = ("train.iterations=1", "optim.lr=1e-12", "optim.backbone_lr=1e-12", "optim.ema=0")
    return train_prepared(prepared(data, *still, *settings), out)


def test_a_model_gives_its_weights(data: Path, tmp_path: Path) -> None:
    first = started(data, tmp_path / "first").model
    started(data, tmp_path / "again", f"start.weights={first}", "train.seed=5")
    given, taken = load_model(first).network.state_dict(), network_in(tmp_path / "again")
    for name in given:
        if "running" not in name and "batches" not in name:
            torch.testing.assert_close(taken[name], given[name], atol=1e-6, rtol=0, msg=name)


def test_classifiers_are_new_where_classes_are_others(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = started(data, tmp_path / "first").model
    (data / "classes.json").write_text('["background", "dent"]')
    started(data, tmp_path / "again", f"start.weights={first}", "train.seed=5")
    table = " ".join(capsys.readouterr().err.split())
    assert "coarse_head │" in table
    assert "no class has the name" in table
    given, taken = load_model(first).network.state_dict(), network_in(tmp_path / "again")
    close = {name: torch.allclose(taken[name], given[name], atol=1e-6) for name in given if name.endswith("weight")}
    new = {name for name, same in close.items() if not same}
    assert new == {"coarse_head.classifier.weight", "point_head.classifier.weight"}


def test_a_frozen_backbone_keeps_weights_and_statistics(data: Path, tmp_path: Path) -> None:
    first = train_prepared(prepared(data, "optim.ema=0"), tmp_path / "first").model
    settings = ("start.freeze=backbone", f"start.weights={first}", "optim.ema=0", "train.seed=3")
    train_prepared(prepared(data, *settings), tmp_path / "again")
    given, now = load_model(first).network.state_dict(), network_in(tmp_path / "again")
    changed = {name for name, tensor in given.items() if not torch.equal(tensor, now[name])}
    assert not any(name.startswith("backbone.") for name in changed)
    assert {"coarse_head.classifier.weight", "pyramid.layer_blocks.0.0.weight"} <= changed


def test_a_host_that_is_not_there_cannot_be_frozen(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"start\.freeze is host, but this recipe has no host: --freeze backbone"):
        train_prepared(prepared(data, "start.freeze=host"), tmp_path / "run")


def test_weights_that_fit_nothing_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"the weights of people-lite0 fit no backbone of this recipe"):
        started(data, tmp_path / "run", "start.weights=people-lite0")
    with pytest.raises(ValueError, match="no model is called 'people-lite'"):
        started(data, tmp_path / "run", "start.weights=people-lite")


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_prepared(prepared(data, "train.iterations=2"), out)
    before = {path.name: path.read_bytes() for path in (out / "last.pt", out / "last.safetensors")}
    # No file may grow over 100 kB, as on a full disk; the checkpoint is larger.
    assert len(before["last.pt"]) > 100_000
    settings = [part for setting in (*SETTINGS, "train.iterations=3") for part in ("--set", setting)]
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from pointrend.cli import main; main(sys.argv[1:])"
    )
    command = ["train", "people-lite0", "--data", str(data), "--out", str(out), "--resume", *settings]
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("pointrend: error: ")]
    assert len(errors) == 1
    assert "last.pt: cannot be written" in errors[0]
    assert {path.name: path.read_bytes() for path in (out / "last.pt", out / "last.safetensors")} == before
    assert not list(out.glob(".pointrend-*"))
