"""Trainings of two processes on one machine, and of two nodes, equal that of one process."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

WORKER = Path(__file__).with_name("train_worker.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
SETTINGS = (
    "model.backbone=test_efficientnet",
    "start.weights=none",
    "model.fpn_channels=8",
    "model.coarse_channels=8",
    "model.point.hidden=16",
    "data.layout=folder",
    "augment.crop=[48, 48]",
    "augment.base_scale=1.0",
    "augment.grayscale=0",
    "loss.class_balance=0",
    "optim.name=sgd",
    "optim.lr=0.05",
    "optim.warmup=0",
    "optim.ema=0.5",
    "train.iterations=5",
    "train.batch_size=4",
    "train.workers=0",
    "train.log_every=1",
    "train.eval_every=100",
    "train.precision=32-true",
    "test.shortest=48",
    "test.longest=48",
    "test.subdivision.num_points=128",
)


@pytest.fixture(scope="module")
def ragged(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes with much of some images ignored, so that processes have different numbers of labelled pixels."""
    root = tmp_path_factory.mktemp("ragged")
    for path in scenes.rglob("*.*"):
        target = root / path.relative_to(scenes)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for index, path in enumerate(sorted((root / "train" / "labels").iterdir())):
        labels = np.array(Image.open(path))
        labels[: 9 * (index % 9)] = 255
        Image.fromarray(labels).save(path)
    return root


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def run(command: list[str], *, code: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == code, done.stderr
    return done.stderr


def weights(out: Path) -> dict[str, torch.Tensor]:
    state = torch.load(out / "last.pt", weights_only=True)
    return {
        name: tensor for name, tensor in {**state["network"], **state["average"]}.items() if tensor.is_floating_point()
    }


def assert_equal(out: Path, reference: Path) -> None:
    found, expected = weights(out), weights(reference)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=2e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def losses(out: Path) -> list[float]:
    with (out / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


@pytest.fixture(scope="module")
def alone(ragged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    run([sys.executable, str(WORKER), str(ragged), str(out), *SETTINGS])
    return out


@pytest.mark.slow
def test_two_processes_with_sync_norm_train_as_one(ragged: Path, alone: Path, tmp_path: Path) -> None:
    launch = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", str(WORKER), str(ragged)]
    run([*launch, str(tmp_path / "two"), *SETTINGS, "train.sync_norm=true"])
    assert_equal(tmp_path / "two", alone)
    assert losses(tmp_path / "two") == pytest.approx(losses(alone), rel=2e-4)
    # Without it, batch norms see half a batch each: the test can tell.
    run([*launch, str(tmp_path / "apart"), *SETTINGS, "train.iterations=2"])
    assert losses(tmp_path / "apart")[1] != pytest.approx(losses(alone)[1], rel=8e-4)


@pytest.mark.slow
def test_two_nodes_train_as_one_process(ragged: Path, alone: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [
                *TORCHRUN,
                *("--nnodes", "2", "--node-rank", str(node), "--nproc-per-node", "1"),
                *("--master-addr", "127.0.0.1", "--master-port", str(port)),
                *(str(WORKER), str(ragged), str(tmp_path / "run"), *SETTINGS, "train.sync_norm=true"),
            ],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in (0, 1)
    ]
    for node in nodes:
        _, said = node.communicate(timeout=300)
        assert node.returncode == 0, said
    assert_equal(tmp_path / "run", alone)


def test_a_recipe_with_other_devices_than_torchrun_is_one_line(ragged: Path, tmp_path: Path) -> None:
    command = ["-m", "pointrend", "train", "people-lite0", "--data", str(ragged), "--out", str(tmp_path / "run")]
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    launch = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", "--no-python", sys.executable, *command, *settings]
    said = run([*launch, "--devices", "3"], code=1)
    assert (
        "pointrend: error: torchrun started 2 processes on each of 1 node, but train.devices is 3: leave it out, or "
        "make them equal"
    ) in said
    assert not (tmp_path / "run").exists()


def started(ragged: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """`pointrend train` in the background, resumed if it was started before."""
    settings = [part for setting in (*SETTINGS, "train.save_every=2", *more) for part in ("--set", setting)]
    command = [sys.executable, "-m", "pointrend", "train", "people-lite0", "--data", str(ragged), "--out", str(out)]
    resume = ["--resume"] if (out / "last.pt").exists() else []
    return subprocess.Popen(
        [*command, *settings, *resume], env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def seen(out: Path, iteration: int, process: subprocess.Popen[str]) -> None:
    """Wait until an iteration is logged."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if (out / "log.csv").exists() and f"\n{iteration}," in "\n" + "\n".join(_steps(out)):
            return
        time.sleep(0.02)


def _steps(out: Path) -> list[str]:
    with (out / "log.csv").open() as file:
        return [f"{row['step']}," for row in csv.DictReader(file) if row.get("step")]


@pytest.mark.slow
def test_a_training_that_is_killed_at_random_ends_as_if_it_had_not_been(ragged: Path, tmp_path: Path) -> None:
    more = ("train.iterations=14", "train.eval_every=7", "optim.lr=0.02")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = started(ragged, whole, *more)
    assert done.wait(timeout=120) == 0
    random = np.random.default_rng()  # another moment in every run
    for iteration in (3, 9):
        process = started(ragged, killed, *more)
        seen(killed, iteration, process)
        time.sleep(random.uniform(0, 0.15))
        process.kill()
        process.wait()
    process = started(ragged, killed, *more)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    ours, theirs = (torch.load(folder / "last.pt", weights_only=True) for folder in (killed, whole))
    assert ours["iteration"] == 14
    assert ours["best"] == theirs["best"]
    for part in ("network", "average"):
        assert all(torch.equal(ours[part][name], tensor) for name, tensor in theirs[part].items())
    assert losses(killed) == losses(whole)
    assert (killed / "best.safetensors").read_bytes() != b""
    assert not list(killed.glob(".pointrend-*"))


def test_sigterm_saves_and_says_how_to_go_on(ragged: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    more = ("train.iterations=100000", "train.save_every=100000", "train.workers=1")
    process = started(ragged, out, *more)
    seen(out, 2, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75, said
    iteration = torch.load(out / "last.pt", weights_only=True)["iteration"]
    (line,) = [line for line in said.splitlines() if "SIGTERM" in line]
    assert line == f"stopped by SIGTERM after {iteration} iterations, which are saved in {out}: go on with --resume"
    assert 2 <= iteration < 100_000
    assert f"{iteration}," in _steps(out)[-1]
