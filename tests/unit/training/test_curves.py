"""The picture of a training's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from pointrend.recipes import Recipe
from pointrend.training.curves import draw_curves, loss_names, smoothed
from pointrend.training.log import RunLog
from pointrend.training.recipe import load_recipe


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe("people-lite0", ["train.loggers=[]"])


def drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, tuple[list[float], list[float]]]]:
    """The lines of each panel by their labels, as they were saved."""
    figures: list[Any] = []
    save = matplotlib.figure.Figure.savefig

    def saved(self: matplotlib.figure.Figure, *args: Any, **more: Any) -> None:
        figures.append(self)
        save(self, *args, **more)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", saved)
    path = draw_curves(folder, title="a run", score="miou")
    assert path == folder / "curves.png"
    with Image.open(path) as image:
        assert image.width > 800
    (figure,) = figures
    return [
        {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
        for axes in figure.axes
    ]


def test_losses_scores_and_rates_over_iterations(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunLog(tmp_path, recipe) as log:
        for step, score in ((5, None), (10, 50.0), (15, None), (20, 80.0), (30, 70.0)):
            values = {"loss": 10 / step, "loss_points": 1 / step, "loss_auxiliary": 0.0, "lr": 1e-3 * step}
            if score is not None:
                values |= {"val/coarse/miou": score - 9, "val/pointrend/miou": score, "val/score": score}
                values |= {"val/pointrend/boundary_iou": 3.0}
            log.write(step, values)
    losses, scores, rates = drawn(tmp_path, monkeypatch)
    assert set(losses) == {"all", "points"}  # what is always 0 is left out
    assert losses["all"][0] == [5, 10, 15, 20, 30]
    assert losses["points"][1] == pytest.approx([1 / step for step in (5, 10, 15, 20, 30)], rel=1e-5)
    assert scores["coarse"] == ([10, 20, 30], [41, 71, 61])
    assert scores["pointrend"] == ([10, 20, 30], [50, 80, 70])
    assert scores["best"] == ([20], [80])
    assert next(iter(rates.values()))[1] == pytest.approx([0.005, 0.01, 0.015, 0.02, 0.03])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_many_rows_are_smoothed_and_no_evaluation_is_said(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunLog(tmp_path, recipe) as log:
        for step in range(1, 61):
            log.write(step, {"loss": 1.0 + (-1) ** step * 0.5, "lr": 1e-3})
    losses, scores, _ = drawn(tmp_path, monkeypatch)
    assert scores == {}
    assert np.ptp(losses["all"][1][5:-5]) < 0.4  # of 1 before


def test_a_run_without_rows_has_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(tmp_path, monkeypatch)[0].keys() <= {"all"}


def test_smoothing_is_a_mean_of_neighbours_that_keeps_slopes() -> None:
    assert smoothed([1, 2, 6, 4, 5], 3).tolist() == pytest.approx([1, 3, 4, 5, 5])
    slope = list(range(20))
    assert smoothed(slope, 7).tolist() == pytest.approx(slope)
    assert smoothed([], 3).tolist() == []


def test_the_total_is_the_first_of_the_losses() -> None:
    rows = [{"step": 1.0, "loss_points": 1.0, "loss_auxiliary": 0.5, "loss": 3.0, "lr": 1.0, "loss_none": 0.0}]
    assert loss_names(rows) == ["loss", "loss_auxiliary", "loss_points"]
