from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pointrend.files import atomic_path, write_atomically


def test_writes_into_new_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def test_failure_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    write_atomically(path, b"old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            assert temporary.suffix == ".txt"
            assert temporary.parent == path.parent
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_it_as_usual(tmp_path: Path) -> None:
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.touch()
    write_atomically(ours, b"")
    assert stat.S_IMODE(ours.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
