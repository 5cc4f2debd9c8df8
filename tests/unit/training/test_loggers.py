"""Loggers of other packages: what they are told, without them."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pointrend.cli import main
from pointrend.errors import PointRendError
from pointrend.training.log import RunLog
from pointrend.training.loggers import check_loggers
from pointrend.training.recipe import RecipeError, load_recipe


class FakeWandb(SimpleNamespace):
    """Notes its calls, as `wandb` takes them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        run = SimpleNamespace(
            id="run7",
            log=lambda values, step: self.calls.append(("log", {"step": step, **values})),
            finish=lambda exit_code: self.calls.append(("finish", {"exit_code": exit_code})),
        )
        super().__init__(init=lambda **given: self.calls.append(("init", given)) or run)


class FakeMlflow(SimpleNamespace):
    """Notes its calls, as `mlflow` takes them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

        def noted(name: str, answer: Any = None) -> Any:
            return lambda *args, **given: self.calls.append((name, (*args, given))) or answer

        super().__init__(
            set_experiment=noted("experiment"),
            start_run=noted("start", SimpleNamespace(info=SimpleNamespace(run_id="m1"))),
            log_params=noted("params"),
            log_metrics=noted("metrics"),
            end_run=noted("end"),
        )


def log_twice(folder: Path, name: str) -> None:
    """A training that fails after its first row, and its resumption."""
    recipe = load_recipe("people-lite0", [f"train.loggers=[{name}]", "optim.lr=0.125"])
    with suppress(FloatingPointError), RunLog(folder, recipe) as log:
        log.write(5, {"loss": 0.5, "val/score": 60.0})
        raise FloatingPointError
    with RunLog(folder, recipe, iteration=5) as log:
        log.write(10, {"loss": 0.25})


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb())
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    folder = tmp_path / "my run"
    folder.mkdir()
    log_twice(folder, "wandb")
    (first, begun), *between, (again, resumed), logged, finished = fake.calls
    assert (first, again) == ("init", "init")
    assert begun["config"]["optim.lr"] == 0.125
    assert begun["config"]["loss.ohem.threshold"] == 0.0
    assert (begun["project"], begun["name"], begun["dir"]) == ("pointrend", "my run", str(folder))
    assert (begun["id"], begun["resume"]) == (None, None)
    assert between == [("log", {"step": 5, "loss": 0.5, "val/score": 60.0}), ("finish", {"exit_code": 1})]
    assert (resumed["id"], resumed["resume"]) == ("run7", "allow")
    assert (logged, finished) == (("log", {"step": 10, "loss": 0.25}), ("finish", {"exit_code": 0}))
    assert not (folder / "tensorboard").exists()


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", fake := FakeMlflow())
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    folder = tmp_path / "a"
    folder.mkdir()
    log_twice(folder, "mlflow")
    parameters: dict[str, Any] = {}
    for name, given in fake.calls:
        if name == "params":
            assert len(given[0]) <= 100
            parameters |= given[0]
    assert parameters["optim.lr"] == 0.125
    assert len(parameters) > 60
    assert [call for call in fake.calls if call[0] != "params"] == [
        ("experiment", ("pointrend", {})),
        ("start", ({"run_id": None, "run_name": "a"},)),
        ("metrics", ({"loss": 0.5, "val/score": 60.0}, {"step": 5})),
        ("end", ("FAILED", {})),
        ("experiment", ("pointrend", {})),
        ("start", ({"run_id": "m1", "run_name": "a"},)),
        ("metrics", ({"loss": 0.25}, {"step": 10})),
        ("end", ("FINISHED", {})),
    ]
    assert json.loads((folder / "run.json").read_text())["loggers"] == {"mlflow": "m1"}
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    fake.calls.clear()
    log_twice(tmp_path, "mlflow")
    assert "experiment" not in [name for name, _ in fake.calls]


def test_tensorboard_is_the_default(tmp_path: Path) -> None:
    recipe = load_recipe("people-lite0")
    assert recipe.train.loggers == ("tensorboard",)
    with RunLog(tmp_path, recipe) as log:
        log.write(5, {"loss": 0.5})
        log.write(10, {"loss": 0.25})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(5, 0.5), (10, 0.25)]


@pytest.mark.parametrize("name", ["wandb", "mlflow", "tensorboard"])
def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"the logger {name} needs the package {name}: pip install {name}"):
        check_loggers([name])
    check_loggers(["tensorboard"] if name != "tensorboard" else [])


def test_a_logger_that_does_not_start_is_one_line_and_closes_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb())

    def refuse(**_: Any) -> None:
        raise RuntimeError("no\nserver")

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(set_experiment=print, start_run=refuse))
    recipe = load_recipe("people-lite0", ["train.loggers=[wandb, mlflow]"])
    with pytest.raises(PointRendError, match=r"the logger mlflow could not start \(no server\); leave it out"):
        RunLog(tmp_path, recipe)
    assert fake.calls[-1] == ("finish", {"exit_code": 1})


def test_the_option_names_loggers_instead_of_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)

    def line(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["train", "people-lite0", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *arguments])
        assert ended.value.code == 2
        (printed,) = capsys.readouterr().err.splitlines()
        return printed

    assert "needs the package wandb: pip install wandb" in line("--logger", "tensorboard", "--logger", "wandb")
    assert "'tensorboard', 'wandb' or 'mlflow', got 'wanbd'" in line("--logger", "wanbd")
    with pytest.raises(RecipeError):
        load_recipe("people-lite0", ["train.loggers=wandb"])
