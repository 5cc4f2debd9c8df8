from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from pointrend.errors import PointRendWarning
from pointrend.training.checkpoint import (
    CHECKPOINT_VERSION,
    CheckpointError,
    TrainingState,
    earlier,
    load_checkpoint,
    load_newest,
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


def saved(path: Path, count: int, keep: int) -> None:
    for iteration in range(1, count + 1):
        one = state()
        one.iteration = iteration
        save_checkpoint(path, one, keep=keep)


@pytest.mark.parametrize(("keep", "kept"), [(1, [5]), (2, [5, 4]), (3, [5, 4, 3]), (9, [5, 4, 3, 2, 1])])
def test_the_newest_are_kept(tmp_path: Path, keep: int, kept: list[int]) -> None:
    path = tmp_path / "last.pt"
    saved(path, 5, keep)
    assert [load_checkpoint(one).iteration for one in (path, *earlier(path))] == kept
    assert len(list(tmp_path.iterdir())) == len(kept)


def test_fewer_are_kept_from_now_on(tmp_path: Path) -> None:
    saved(tmp_path / "last.pt", 4, 4)
    saved(tmp_path / "last.pt", 1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last-1.pt", "last.pt"]


def test_file_systems_without_links_get_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("no links")

    monkeypatch.setattr(os, "link", refused)
    saved(tmp_path / "last.pt", 3, 2)
    assert [load_checkpoint(tmp_path / name).iteration for name in ("last.pt", "last-1.pt")] == [3, 2]


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "last.pt"
    saved(path, 3, 3)
    if damage == "missing":
        path.unlink()
        said = "no checkpoint to resume from"
    else:
        path.write_bytes(path.read_bytes()[:-300])
        (tmp_path / "last-1.pt").write_bytes(b"")
        said = "damaged"
    expected = 1 if damage == "truncated" else 2
    with pytest.warns(PointRendWarning, match=rf"{said}.*goes on from last-\d.pt, after {expected} iterations"):
        assert load_newest(path).iteration == expected
    # What was damaged does not take the place of what is good when the next one is saved.
    assert not path.exists()
    one = state()
    one.iteration = 9
    save_checkpoint(path, one, keep=3)
    assert load_checkpoint(path).iteration == 9
    assert expected in [load_checkpoint(other).iteration for other in earlier(path) if other.stat().st_size]


def test_a_save_that_fails_moves_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.pt"
    saved(path, 3, 3)

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="disk full"):
        save_checkpoint(path, state(), keep=3)
    assert [load_checkpoint(one).iteration for one in (path, *earlier(path))] == [3, 2, 1]


def test_without_any_that_can_be_read_the_newest_is_named(tmp_path: Path) -> None:
    saved(tmp_path / "last.pt", 2, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"last\.pt: not a training checkpoint"):
        load_newest(tmp_path / "last.pt")


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
