"""The file that a training's numbers are in, whole, cut off and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointrend.recipes import Recipe
from pointrend.training.log import LogError, RunLog, read_log
from pointrend.training.recipe import load_recipe


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("people-lite0", ["train.loggers=[]"])


def test_a_row_an_iteration_the_iteration_first_and_empty_where_there_is_no_number(
    tmp_path: Path, recipe: Recipe
) -> None:
    with RunLog(tmp_path, recipe) as log:
        log.write(2, {"loss": 1 / 3, "lr": 0.5})
        log.write(4, {"loss": 0.25, "lr": 0.1, "val/score": 61.5, "aaa": float("nan")})
    assert (tmp_path / "log.csv").read_text().splitlines() == [
        "step,aaa,loss,lr,val/score",
        "2,,0.333333,0.5,",
        "4,nan,0.25,0.1,61.5",
    ]
    first, second = read_log(tmp_path / "log.csv")
    assert first == {"step": 2, "loss": 0.333333, "lr": 0.5}
    assert (second["step"], second["val/score"]) == (4, 61.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv"]  # no logger was asked for


def test_a_resumed_log_goes_on_where_the_training_does(tmp_path: Path, recipe: Recipe) -> None:
    with RunLog(tmp_path, recipe) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": step})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("4,0.12")  # killed while writing
    with RunLog(tmp_path, recipe, iteration=2) as log:
        log.write(3, {"loss": 30, "other": 1})
    assert read_log(tmp_path / "log.csv") == [
        {"step": 1, "loss": 1},
        {"step": 2, "loss": 2},
        {"step": 3, "loss": 30, "other": 1},
    ]


def test_there_may_be_no_log_or_an_empty_one(tmp_path: Path) -> None:
    assert read_log(tmp_path / "log.csv") == []
    (tmp_path / "log.csv").write_text("")
    assert read_log(tmp_path / "log.csv") == []
    (tmp_path / "log.csv").write_text("step,loss\n")
    assert read_log(tmp_path / "log.csv") == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"step,loss\n1,0.5\n2,high\n", "damaged at line 3: .*high"),
        (b"step,loss\n1,0.5\n2\n", "damaged at line 3: 1 of 2 columns"),
        (b"step,loss\n1,0.5,7\n", "damaged at line 2: 3 of 2 columns"),
        (b"step,loss\n,0.5\n", "damaged at line 2: no iteration"),
        (b"step,loss\n-1,0.5\n", "damaged at line 2: no iteration"),
        (b"step,loss\nnan,0.5\n", "damaged at line 2: no iteration"),
        (b"step,loss\n1.5,0.5\n", "damaged at line 2: no iteration"),
        (b"loss\n0.5\n", "no column 'step'"),
        (b"\xff\xfe\x00", "bytes that are no text"),
        (b"step,loss\n1,0.5\x00\n", "damaged at line 2"),
    ],
)
def test_a_damaged_log_is_one_line_and_stays(tmp_path: Path, content: bytes, expected: str, recipe: Recipe) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(LogError, match=expected) as error:
        read_log(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    with pytest.raises(LogError):
        RunLog(tmp_path, recipe, iteration=1)
    assert path.read_bytes() == content


def test_rows_are_kept_when_a_resumed_log_cannot_be_written(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunLog(tmp_path, recipe) as log:
        log.write(1, {"loss": 1})
    before = (tmp_path / "log.csv").read_bytes()

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightning_fabric.loggers.csv_logs.CSVLogger.save", full)
    with pytest.raises(OSError, match="No space left"):
        RunLog(tmp_path, recipe, iteration=1)
    assert (tmp_path / "log.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
