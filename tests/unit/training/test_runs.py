"""Runs below a folder, compared."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from people_files import write_labels

from pointrend.cli import main
from pointrend.errors import PointRendError
from pointrend.files import write_atomically
from pointrend.training.log import RunLog
from pointrend.training.recipe import load_recipe, to_yaml
from pointrend.training.runs import differing, find_runs, use


def write_run(
    folder: Path,
    *settings: str,
    recipe: str = "people-lite0",
    scores: tuple[float, ...] = (),
    models: tuple[str, ...] = ("best", "last"),
) -> None:
    """A run with a row every 10 iterations; a row has a score if there is one for it."""
    loaded = load_recipe(recipe, [*settings, "train.loggers=[]"])
    folder.mkdir(parents=True)
    write_atomically(folder / "recipe.yaml", to_yaml(loaded).encode())
    with RunLog(folder, loaded) as log:
        for index in range(4):
            scored = {"val/score": scores[index]} if index < len(scores) else {}
            log.write(10 * (index + 1), {"loss": 4.0 / (index + 1), **scored})
    for name in models:
        (folder / f"{name}.safetensors").touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    write_run(root / "b", "optim.lr=0.5", "train.iterations=40", scores=(10, 30.25, 30.25, 20))
    weighted = ("loss.class_balance=0", "loss.class_weights=[1, 2]")
    write_run(root / "deep" / "er" / "a", "optim.lr=0.25", *weighted, models=("last",))
    write_run(root / "c", recipe="nuclei-lite0", scores=(float("nan"), 5.5))
    (root / "notes").mkdir()
    (root / "notes" / "recipe.yaml").write_text("name: not a run\n")
    return root


def printed_by(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, list[str]]:
    with pytest.raises(SystemExit) as ended:
        main(["runs", *arguments])
    captured = capsys.readouterr()
    assert ended.value.code == code, captured.err
    return captured.out, captured.err.splitlines()


def test_what_each_run_reached(root: Path) -> None:
    b, c, a = find_runs(root)
    assert [run.folder.name for run in (a, b, c)] == ["a", "b", "c"]
    assert (b.recipe, b.task, b.iteration, b.total) == ("people-lite0", "semantic", 40, 40)
    assert (b.score, b.best, b.best_at, b.loss) == ("miou", 30.25, 20, 1.0)  # the first of equal ones was saved
    assert b.model == root / "b" / "best.safetensors"
    assert (a.best, a.best_at, a.model) == (None, None, root / "deep" / "er" / "a" / "last.safetensors")
    assert (a.iteration, a.total) == (40, 4500)
    assert (c.score, c.best, c.best_at) == ("mask_ap", 5.5, 20)
    assert {run.problem for run in (a, b, c)} == {None}


def test_the_settings_that_differ(root: Path) -> None:
    b, c, a = find_runs(root)
    assert differing([a, b]) == ["optim.lr", "train.iterations", "loss.class_balance", "loss.class_weights"]
    assert differing([b]) == differing([b, b]) == []
    assert {"loss.cross_entropy", "optim.lr"} <= set(differing([b, c]))  # nuclei have other losses
    assert "name" not in differing([a, b, c])


def test_the_table(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    (root / "c").rename(root.parent / "c")
    out, err = printed_by(capsys, str(root))
    assert err == []
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "b people-lite0 40/40 30.25 miou 20 1 best.safetensors optim.lr=0.5" in lines
    assert "deep/er/a people-lite0 40/4500 - - 1 last.safetensors optim.lr=0.25" in lines
    assert [line for line in lines if "balance" in line] == ["loss.class_balance=0.25", "loss.class_balance=0.0"]
    assert "loss.class_weights=[1.0, 2.0]" in lines
    alone, _ = printed_by(capsys, str(root / "b"))
    assert "differ" not in alone
    assert "30.25 miou" in alone


def test_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed_by(capsys, str(root / "b"), "--json")
    assert err == []
    assert json.loads(out) == [
        {
            "run": "b",
            "recipe": "people-lite0",
            "task": "semantic",
            "iteration": 40,
            "iterations": 40,
            "best": {"name": "miou", "value": 30.25, "iteration": 20},
            "loss": 1.0,
            "model": str(root / "b" / "best.safetensors"),
            "settings": {},
            "problem": None,
        }
    ]
    assert [run["settings"].get("optim.lr") for run in json.loads(printed_by(capsys, str(root), "--json")[0])] == [
        0.5,
        load_recipe("nuclei-lite0").optim.lr,
        0.25,
    ]


def test_damaged_runs_are_listed_with_a_note_each(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "b" / "log.csv").write_text("step,loss\n1,x\n")
    (root / "c" / "recipe.yaml").write_text("name: [\n")
    out, err = printed_by(capsys, str(root))
    assert [line.partition(": ")[2] for line in err] == [
        f"note: {root / 'b' / 'log.csv'}: damaged at line 2: \"could not convert string to float: 'x'\"",
        err[1].partition(": ")[2],
    ]
    assert f"{root / 'c' / 'recipe.yaml'}: the text of a recipe is damaged" in err[1]
    assert "deep/er/a" in out
    b, c, _ = find_runs(root)
    assert (b.iteration, b.loss, b.total, b.model) == (0, None, 40, root / "b" / "best.safetensors")
    assert (c.recipe, c.total, c.best, use(c)) == (None, None, 5.5, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("nothing", "got nothing"), ("file", "got a file"), ("empty", "no runs here; a run is a folder that")],
)
def test_a_folder_without_runs_is_one_line(
    tmp_path: Path, name: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(PointRendError, match=expected):
        find_runs(tmp_path / name)
    out, err = printed_by(capsys, str(tmp_path / name), code=2)
    assert out == ""
    assert len(err) == 1
    assert expected in err[0]


def test_the_last_line_of_a_training_is_a_command_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_labels(tmp_path / "data", lambda mask: mask.astype(np.uint8))
    settings = ["model.backbone=test_efficientnet", "start.weights=none", "model.fpn_channels=8", "data.layout=folder"]
    settings += ["model.coarse_channels=8", "model.point.hidden=8", "augment.crop=[32, 32]", "train.batch_size=2"]
    settings += ["train.workers=0", "train.iterations=2", "train.eval_every=1", "test.shortest=32", "test.longest=64"]
    sets = [part for setting in settings for part in ("--set", setting)]
    out = tmp_path / "my run"
    with pytest.raises(SystemExit) as ended:
        main(["train", "people-lite0", "--data", str(data), "--out", str(out), *sets])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 0, last
    (run,) = find_runs(out)
    assert run.best is not None
    assert run.best_at in (1, 2)
    reached = f"(miou {run.best:.2f} at iteration {run.best_at})"
    model = out / "best.safetensors"
    assert last.startswith(
        f"done after 2 iterations; the best model is {model} {reached}; to use it: pointrend predict "
    )
    program, *arguments = shlex.split(last.partition("to use it: ")[2])
    assert program == "pointrend"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PHOTO").write_bytes((data / "val" / "images" / "r0.png").read_bytes())
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert (tmp_path / "out" / "PHOTO.png").is_file()
