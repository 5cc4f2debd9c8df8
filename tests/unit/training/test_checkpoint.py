from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from pointrend.training.checkpoint import (
    CHECKPOINT_VERSION,
    CheckpointError,
    TrainingState,
    load_checkpoint,
    save_checkpoint,
)


def state() -> TrainingState:
    return TrainingState(
        recipe="name: x", iteration=5, best=1.5, network={"w": torch.ones(2)}, optimizer={"state": {}}, average=None
    )


def test_round_trip(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", state())
    loaded = load_checkpoint(tmp_path / "last.pt")
    assert (loaded.recipe, loaded.iteration, loaded.best) == ("name: x", 5, 1.5)
    assert torch.equal(loaded.network["w"], torch.ones(2))


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, state())
    before = path.read_bytes()

    def broken(fields: object, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(CheckpointError, match=r"cannot be written \(disk full\); the checkpoint before"):
        save_checkpoint(path, state())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "truncated"])
def test_damaged(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, state())
    path.write_bytes(path.read_bytes()[:-300] if isinstance(content, str) else content)
    with pytest.raises(CheckpointError, match="not a training checkpoint, or damaged") as raised:
        load_checkpoint(path)
    assert "\n" not in str(raised.value)


def test_another_version_and_other_contents(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    torch.save({"version": 99}, path)
    with pytest.raises(CheckpointError, match="version 99"):
        load_checkpoint(path)
    torch.save({"version": 1}, path)  # its recipe has other sections
    with pytest.raises(CheckpointError, match="checkpoint version 1, this pointrend reads 2"):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        load_checkpoint(path)
    torch.save({"version": CHECKPOINT_VERSION, "surprise": 2}, path)
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        load_checkpoint(path)


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch attacked",)


def test_nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"version": CHECKPOINT_VERSION, "network": Attack()}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Attack()))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "attacked").exists()
