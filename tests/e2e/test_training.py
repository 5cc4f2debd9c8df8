"""Training from end to end on scenes with known boundaries: it learns, it resumes exactly, it complains early."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pointrend.cli import main
from pointrend.data import find_samples
from pointrend.training.checkpoint import CheckpointError
from pointrend.training.loop import Outcome, train_prepared
from pointrend.training.prepare import Training
from pointrend.training.recipe import load_recipe
from pointrend.zoo.modelfile import read_spec


def run(
    scenes: Path, out: Path, settings: list[str], *, resume: bool = False, stop_after: int | None = None
) -> Outcome:
    recipe = load_recipe("people-lite0", settings)
    samples = [find_samples(scenes, task="semantic", layout="folder", split=split) for split in ("train", "val")]
    return train_prepared(Training(recipe, samples[0], samples[1]), out, resume=resume, stop_after=stop_after)


@pytest.fixture(scope="module")
def trained(scenes: Path, tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    out = tmp_path_factory.mktemp("runs") / "scenes"
    return run(scenes, out, [*tiny_settings, "train.iterations=160", "train.eval_every=80"])


def test_rendering_beats_its_own_coarse_row(trained: Outcome) -> None:
    assert trained.scores is not None
    coarse, rendered = trained.scores.rows["coarse"], trained.scores.rows["pointrend"]
    assert coarse["miou"] > 60  # the network has learned something
    assert rendered["miou"] > coarse["miou"]
    assert rendered["boundary_iou"] > coarse["boundary_iou"] + 2


def test_run_folder_holds_models_log_and_recipe(trained: Outcome) -> None:
    out = trained.model.parent
    models = {"best.safetensors", "last.safetensors", "last.pt", "last-1.pt"}
    shown = {"log.csv", "tensorboard", "curves.png", "samples"}
    assert models | shown | {"recipe.yaml", "run.json"} == {path.name for path in out.iterdir()}
    assert sorted(path.name for path in (out / "samples").iterdir()) == ["000080.png", "000160.png"]
    with (out / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in rows]
    assert len(losses) == 160 / 5  # every 5 iterations
    peaks = [float(row["peak_memory_gb"]) for row in rows]
    assert 0.1 < 0.99 * peaks[0] < peaks[-1] < 50  # Linux counts pages of threads with a delay
    facts = read_spec(out / "last.safetensors").training
    assert facts is not None
    assert (facts.crop, facts.iterations) == ((64, 64), 160)
    assert facts.peak_memory is not None
    assert facts.peak_memory >= 0.99e9 * peaks[0]
    assert losses[-1] < 0.5 * losses[0]
    evaluated = [row for row in rows if row["val/pointrend/miou"]]
    assert [row["step"] for row in evaluated] == ["80", "160"]
    assert all(row["val/score"] == row["val/pointrend/miou"] for row in evaluated)


def command(*arguments: str) -> int:
    """Run the command line in this process; the exit code."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_eval_command_prints_what_training_measured(
    trained: Outcome, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.scores is not None
    model = trained.model.parent / "last.safetensors"
    assert command("eval", str(model), str(scenes / "val"), "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows["pointrend"]["miou"] == pytest.approx(trained.scores.rows["pointrend"]["miou"], abs=0.05)
    assert rows["coarse"]["boundary_iou"] == pytest.approx(trained.scores.rows["coarse"]["boundary_iou"], abs=0.05)


def test_predict_command_on_the_trained_model(trained: Outcome, scenes: Path, tmp_path: Path) -> None:
    photo = scenes / "val" / "images" / "000.png"
    assert command("predict", str(photo), "--model", str(trained.model), "--out", str(tmp_path)) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"000.png", "000_overlay.png", "000.json"}


def test_interrupted_and_resumed_equals_uninterrupted(scenes: Path, tiny_settings: list[str], tmp_path: Path) -> None:
    settings = [*tiny_settings, "train.iterations=12", "train.eval_every=6", "train.workers=1"]
    whole = run(scenes, tmp_path / "whole", settings)
    run(scenes, tmp_path / "parts", settings, stop_after=5)
    resumed = run(scenes, tmp_path / "parts", settings, resume=True)
    assert whole.iteration == resumed.iteration == 12
    for name in ("last.safetensors", "best.safetensors"):
        expected, found = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            assert torch.equal(value, found[key]), key
    states = [torch.load(tmp_path / part / "last.pt", weights_only=True) for part in ("whole", "parts")]
    for key, value in states[0]["network"].items():
        assert torch.equal(value, states[1]["network"][key]), key


def test_another_seed_gives_other_weights(scenes: Path, tiny_settings: list[str], tmp_path: Path) -> None:
    """The comparison of the test above can tell runs apart."""
    settings = [*tiny_settings, "train.iterations=2"]
    run(scenes, tmp_path / "a", settings)
    run(scenes, tmp_path / "b", [*settings, "train.seed=1"])
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in "ab")
    assert any(not torch.equal(a[key], b[key]) for key in a)


def test_resume_refuses_other_settings_and_leaves_the_run_alone(
    scenes: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    settings = [*tiny_settings, "train.iterations=4"]
    run(scenes, tmp_path, settings, stop_after=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(CheckpointError, match=r"other settings \(optim.lr\)"):
        run(scenes, tmp_path, [*settings, "optim.lr=1e-4"], resume=True)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    run(scenes, tmp_path, settings, resume=True)  # as the message advises


def test_a_training_that_diverges_keeps_the_last_good_checkpoint(
    scenes: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    settings = [*tiny_settings, "train.iterations=40", "train.log_every=40", "train.save_every=1", "optim.lr=1e30"]
    with pytest.raises(FloatingPointError, match="try a lower"):
        run(scenes, tmp_path, [*settings, "train.eval_every=40", "optim.clip_norm=0", "optim.warmup=0"])
    for path in tmp_path.glob("last.*"):
        state = torch.load(path, weights_only=True)["network"] if path.suffix == ".pt" else load_file(path)
        assert all(value.isfinite().all() for value in state.values()), path


def test_binary_model_trains_with_one_logit(scenes: Path, tiny_settings: list[str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    classes = [{"name": "background"}, {"name": "shape"}, {"name": "unclear", "ignore": True}]
    (data / "classes.json").write_text(json.dumps(classes))
    outcome = run(data, tmp_path / "run", [*tiny_settings, "train.iterations=30", "loss.class_balance=0.5"])
    weights = load_file(tmp_path / "run" / "last.safetensors")
    assert weights["coarse_head.classifier.weight"].shape[0] == 1
    assert outcome.scores is not None
    assert outcome.scores.rows["pointrend"]["miou"] > 20
    assert [c.name for c in read_spec(outcome.model).classes] == ["background", "shape"]


def train_command(scenes: Path, out: Path, *extra: str, recipe: str = "people-lite0") -> int:
    settings = ["data.layout=folder", "start.weights=none", "model.backbone=test_efficientnet"]
    sets = [part for value in settings for part in ("--set", value)]
    return command("train", recipe, "--data", str(scenes), "--out", str(out), *sets, *extra)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["--set", "train.iteration=5"], "there is no setting train.iteration; the nearest is train.iterations"),
        (["--set", "optim.lr"], "--set expects key=value"),
        (["--set", "optim.lr=-1"], "optim.lr"),
        (["--set", "optim.lr=fast"], "optim.lr"),
        (["--resume"], "no checkpoint to resume from"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_use_is_one_line(
    scenes: Path, tmp_path: Path, extra: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_command(scenes, tmp_path / "run", *extra) == 2
    printed = capsys.readouterr().err
    assert expected in printed
    assert len(printed.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_unknown_recipe_lists_the_known(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_command(scenes, tmp_path / "run", recipe="poeple-lite0") == 2
    assert "people-lite0" in capsys.readouterr().err


def test_unsound_data_is_said_before_training(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    (data / "train" / "labels" / "003.png").unlink()
    (data / "train" / "images" / "005.png").write_bytes(b"not an image")
    assert train_command(data, tmp_path / "run") == 1
    printed = capsys.readouterr().err
    assert "003.png" in printed
    assert "005.png" in printed
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_overwritten(trained: Outcome, scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trained.model.read_bytes()
    assert train_command(scenes, trained.model.parent) == 2
    assert "--resume" in capsys.readouterr().err
    assert trained.model.read_bytes() == before


def test_a_device_that_is_not_there_is_one_line(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = "mps" if torch.cuda.is_available() else "cuda"
    assert train_command(scenes, tmp_path / "run", "--set", f"train.accelerator={missing}") != 0
    printed = capsys.readouterr().err.strip().splitlines()
    assert f"train.accelerator={missing}" in printed[-1]
    assert "Traceback" not in "".join(printed)


def test_without_the_extra_the_install_command_is_said(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert train_command(scenes, tmp_path / "run") != 0
    assert "pip install 'pointrend[train]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nothing", "DATA"], "no model is called"),
        (["MODEL", "DATA/missing"], "no such folder"),
        (["MODEL", "DATA", "--layout", "fodler"], "did you mean 'folder'"),
        (["MODEL", "DATA", "--points", "0"], "points must be 1 to"),
        (["MODEL", "DATA", "--device", "foo"], "not a device"),
        (["MODEL", "DATA", "--boundary-share", "7"], "boundary-share"),
    ],
)
def test_wrong_use_of_eval_is_one_line(
    trained: Outcome, scenes: Path, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"MODEL": str(trained.model), "DATA": str(scenes / "val"), "DATA/missing": str(scenes / "missing")}
    assert command("eval", *(places.get(a, a) for a in arguments)) == 2
    printed = capsys.readouterr().err
    assert expected in printed
    assert len(printed.strip().splitlines()) == 1
