"""A few seconds of the fuzzer, and that it notices what it looks for."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pointrend.errors import PointRendError
from tests.fuzz import cases, worker
from tests.fuzz.mutate import altered, damaged

FEW = {
    "image": 120,
    "coco": 60,
    "results": 40,
    "classes": 40,
    "export": 100,
    "colors": 40,
    "recipe": 25,
    "spec": 30,
    "checkpoint": 40,
}


@pytest.mark.parametrize("kind", FEW)
def test_some_cases(tmp_path: Path, kind: str) -> None:
    for number in range(FEW[kind]):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert cases.run(kind, number, 0, folder) is None, number


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("FOLDER/a: bad"), "ValueError: "),
        (PointRendError("bad"), "does not name the file"),
        (PointRendError("FOLDER/a: " + "x" * 2000), "a message of 2004 characters"),
        (PointRendError("FOLDER/a: \x1b[2J"), "a message with control characters"),
        (PointRendError("FOLDER/a: bad"), None),
    ],
)
def test_bad_answers_are_noticed(tmp_path: Path, error: Exception, said: str | None) -> None:
    error.args = tuple(str(part).replace("FOLDER", str(tmp_path)) for part in error.args)

    def fail() -> None:
        raise error

    if said is None:
        assert cases.answer(tmp_path, fail) is None
        return
    with pytest.raises(cases.Failed) as caught:
        cases.answer(tmp_path, fail)
    assert said in str(caught.value)


def slow(folder: Path, rng: random.Random) -> None:
    """Takes too long."""
    (folder / "a.txt").write_text("kept")
    time.sleep(60)


def ending(folder: Path, rng: random.Random) -> None:
    """Ends the process."""
    os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the cases of this test cannot be sent to a new interpreter")
@pytest.mark.parametrize(("bad", "said"), [(slow, "took more than 1 seconds"), (ending, "ended the process")])
def test_processes_that_do_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: Callable[[Path, random.Random], None], said: str
) -> None:
    import multiprocessing

    monkeypatch.setattr(worker, "LIMIT", 1.0)
    monkeypatch.setitem(cases.KINDS, "classes", (bad, 1))
    for make in ("images", "recipes", "checkpoints"):  # a forked process must not compute with torch
        monkeypatch.setattr(cases, make, list)
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind, get=multiprocessing.get_context: get("fork"))
    failures = worker.fuzz({"classes": 2}, 5, tmp_path / "out", quiet=True)
    assert failures == [f"classes 0: {said}", f"classes 1: {said}"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["classes-5-0", "classes-5-1"]
    assert (tmp_path / "out/classes-5-0/a.txt").exists() == (bad is slow)


def test_damage_follows_from_the_seed() -> None:
    content, value = bytes(range(200)), {"a": [1, {"b": "c"}]}
    made = [(damaged(content, random.Random(i)), altered(value, random.Random(i))) for i in range(50)]
    again = [(damaged(content, random.Random(i)), altered(value, random.Random(i))) for i in range(50)]
    assert repr(made) == repr(again)
    assert len({repr(one) for one in made}) > 40
    assert value == {"a": [1, {"b": "c"}]}
