"""Evaluation shared by processes that torchrun starts: every image once, and the figures of one process exactly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pointrend.processes
from pointrend.errors import PointRendError
from pointrend.processes import Processes, started_by_torchrun


def scores(*arguments: object, processes: int = 1) -> dict[str, Any]:
    """What `pointrend eval --json` prints, from several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [
            sys.executable,
            *(launcher if processes > 1 else []),
            "-m",
            "pointrend",
            "eval",
            *map(str, arguments),
            "--json",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)  # one document: the first process alone prints
    return printed


@pytest.mark.slow
def test_label_maps_with_a_ragged_end(scenes: Path, tiny_settings: list[str], tmp_path: Path) -> None:
    from pointrend.training import train

    run = train("people-lite0", scenes, tmp_path, settings=[*tiny_settings, "train.iterations=1"])
    arguments = (run.model, scenes / "val", "--limit", 7)
    assert scores(*arguments, processes=2) == scores(*arguments)


@pytest.mark.slow
def test_instances_with_more_processes_than_images(blobs: Path, tmp_path: Path) -> None:
    shutil.copytree(blobs / "val", tmp_path / "val")
    (tmp_path / "classes.json").write_text('["nucleus"]')
    arguments = ("nuclei-lite0", tmp_path / "val", "--layout", "instance-ids", "--limit", 1)
    assert scores(*arguments, processes=2) == scores(*arguments)


@pytest.mark.parametrize(("count", "processes"), [(7, 3), (1, 4), (0, 2), (6, 2)])
def test_every_item_belongs_to_one_process(count: int, processes: int) -> None:
    items = [f"image {index}" for index in range(count)]
    shares = [Processes(rank, processes).mine(items) for rank in range(processes)]
    assert sorted(pair for share in shares for pair in share) == list(enumerate(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with started_by_torchrun("cuda:1") as (processes, device):
        assert (processes, device) == (Processes(0, 1), "cuda:1")
        assert processes.gathered("mine") == ["mine"]
        assert processes.first


def test_a_device_that_all_would_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(
            PointRendError, match="with 2 processes the device must be cuda, and each takes its own; got cuda:1"
        ),
        started_by_torchrun("cuda:1"),
    ):
        pass


def test_processes_that_cannot_be_joined_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(backend: str) -> None:
        raise ValueError("environment variable MASTER_ADDR expected,\nbut not set")

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(pointrend.processes.dist, "init_process_group", refuse)
    with (
        pytest.raises(PointRendError, match="the 2 processes of torchrun could not be joined: environment variable"),
        started_by_torchrun("cpu"),
    ):
        pass
