"""Studies with trainings: what is compared, what is not trained again, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pointrend.cli import main
from pointrend.errors import PointRendError
from pointrend.studies import TRAINED_STUDIES, Spread, trained_study


@pytest.fixture(scope="module")
def settings(tiny_settings: list[str]) -> list[str]:
    mine = [one for one in tiny_settings if not one.startswith(("loss.sampling.num_points", "model.fine_strides"))]
    return [*mine, "train.iterations=2", "train.eval_every=1", "train.eval_images=2"]


def test_every_variant_and_seed_is_trained_once(scenes: Path, settings: list[str], tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []

    def study() -> object:
        return trained_study(
            "pyramid",
            "people-lite0",
            scenes,
            tmp_path,
            seeds=2,
            settings=settings,
            progress=lambda *told: heard.append(told),
        )

    table = trained_study("pyramid", "people-lite0", scenes, tmp_path, seeds=1, settings=settings)
    assert [row[0] for row in table.rows] == [variant.title for variant in TRAINED_STUDIES["pyramid"]]
    first = tmp_path / "p4-stride-16" / "seed-0"
    stamp = (first / "last.safetensors").stat().st_mtime_ns
    table = study()
    assert (first / "last.safetensors").stat().st_mtime_ns == stamp
    scores = [json.loads((tmp_path / "p4-stride-16" / f"seed-{seed}" / "scores.json").read_text()) for seed in (0, 1)]
    row = table.rows[0]
    for cell, (name, stage) in zip(
        row[1:], [(n, s) for n in ("miou", "boundary_iou") for s in ("coarse", "pointrend")], strict=True
    ):
        assert isinstance(cell, Spread)
        assert cell.values == tuple(one[stage][name] for one in scores)
    assert scores[0] != scores[1]
    assert heard[0] == ("P4 (stride 16), seed 0", 0, 8)
    assert heard[-1] == ("done", 8, 8)
    # One evaluation, at the end, whatever the recipe says.
    assert (first / "log.csv").read_text().count("\n") == 2


def test_trainings_of_other_settings_are_refused(scenes: Path, settings: list[str], tmp_path: Path) -> None:
    trained_study("pyramid", "people-lite0", scenes, tmp_path, seeds=1, settings=settings)
    with pytest.raises(PointRendError, match="holds a training with other settings; choose another --out"):
        trained_study("pyramid", "people-lite0", scenes, tmp_path, seeds=1, settings=[*settings, "optim.lr=1e-4"])


def test_the_variants_of_sampling_are_the_papers() -> None:
    assert {variant.title: variant.settings[1:] for variant in TRAINED_STUDIES["sampling"]} == {
        "regular grid": ("loss.sampling.regular=true",),
        "uniform (k=1, beta=0)": ("loss.sampling.oversample=1", "loss.sampling.importance=0"),
        "mildly biased (k=3, beta=0.75)": ("loss.sampling.oversample=3", "loss.sampling.importance=0.75"),
        "heavily biased (k=10, beta=1)": ("loss.sampling.oversample=10", "loss.sampling.importance=1"),
    }


def test_wrong_usage_is_one_line(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PointRendError, match="there is no study 'depth'; expected one of sampling, pyramid"):
        trained_study("depth", "people-lite0", scenes, tmp_path)
    with pytest.raises(PointRendError, match="seeds must be at least 1, got 0"):
        trained_study("pyramid", "people-lite0", scenes, tmp_path, seeds=0)
    with pytest.raises(SystemExit) as ended:
        main(["study", "sampling", "nuclei-lite0", "--data", str(scenes), "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "needs a recipe of a semantic model, nuclei-lite0 is of task instance" in capsys.readouterr().err
