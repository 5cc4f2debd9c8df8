"""How many processes there are is the launcher's to say."""

from __future__ import annotations

import pytest

from pointrend.errors import PointRendError
from pointrend.recipes import TrainSettings
from pointrend.training.launch import Launch, is_first, joined, launched
from pointrend.training.recipe import RecipeError

NAMES = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_JOB_NAME")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *SLURM):
        monkeypatch.delenv(name, raising=False)


def torchrun(monkeypatch: pytest.MonkeyPatch, *, world: int, local: int, rank: int = 0) -> None:
    for name, value in zip(
        ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK"), ("none", world, local, rank), strict=True
    ):
        monkeypatch.setenv(name, str(value))


def srun(monkeypatch: pytest.MonkeyPatch, *, tasks: int, nodes: int, rank: int = 0, job: str = "train") -> None:
    for name, value in zip(SLURM, (rank, tasks, nodes, job), strict=True):
        monkeypatch.setenv(name, str(value))


def test_torchrun_and_srun_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() is None
    torchrun(monkeypatch, world=8, local=4)
    assert launched() == Launch("torchrun", 4, 2)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    srun(monkeypatch, tasks=6, nodes=3)
    assert launched() == Launch("srun", 2, 3)


def test_an_interactive_session_of_slurm_started_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    srun(monkeypatch, tasks=4, nodes=1, rank=3, job="interactive")
    assert launched() is None
    assert is_first()


def test_nodes_of_different_sizes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    srun(monkeypatch, tasks=5, nodes=2)
    with pytest.raises(PointRendError, match="srun started 5 processes on 2 nodes: start as many on each"):
        launched()
    torchrun(monkeypatch, world=5, local=2)
    with pytest.raises(PointRendError, match="torchrun started 5 processes, 2 of them here: start as many on each"):
        launched()


@pytest.mark.parametrize("rank", [0, 5])
def test_the_first_process_of_all_reports(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    assert is_first()
    torchrun(monkeypatch, world=8, local=4, rank=rank)
    monkeypatch.setenv("LOCAL_RANK", str(rank % 4))
    assert is_first() == (rank == 0)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    monkeypatch.delenv("RANK")
    srun(monkeypatch, tasks=8, nodes=2, rank=rank)
    assert is_first() == (rank == 0)


@pytest.mark.parametrize(("local", "node"), [("1", None), ("0", "1")])
def test_processes_that_fabric_started_do_not_report(
    monkeypatch: pytest.MonkeyPatch, local: str, node: str | None
) -> None:
    monkeypatch.setenv("LOCAL_RANK", local)
    if node is not None:
        monkeypatch.setenv("NODE_RANK", node)
    assert not is_first()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"devices": 2},
            "torchrun started 4 processes on each of 2 nodes, but train.devices is 2: leave it out, or make them equal",
        ),
        (
            {"devices": 4, "nodes": 1},
            "torchrun started 4 processes on each of 2 nodes, but train.nodes is 1: leave it out, or make them equal",
        ),
    ],
)
def test_a_recipe_that_contradicts_the_launcher_is_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, int], said: str
) -> None:
    torchrun(monkeypatch, world=8, local=4)
    with pytest.raises(RecipeError, match=said):
        joined(TrainSettings(**settings))


def test_several_nodes_need_a_launcher() -> None:
    with pytest.raises(RecipeError, match=r"train.nodes is 2: start the command on every node by torchrun or srun"):
        joined(TrainSettings(nodes=2))
