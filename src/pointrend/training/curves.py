"""`curves.png`: losses, scores and learning rate over the iterations of a training."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pointrend.files import write_atomically
from pointrend.training.log import LOG_FILE, SCORE, STEP, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES_FILE = "curves.png"
COLORS = ("#c2410c", "#2563eb", "#059669", "#7c3aed", "#8a8f98", "#b45309")
Row = dict[str, float]


def draw_curves(folder: Path, *, title: str, score: str) -> Path:
    """Draw a run's log into its folder, atomically, and return the file.

    Args:
        folder: with the log.
        title: above all.
        score: the number of an evaluation's rows that is drawn, such as "miou".

    Raises:
        LogError: the log is damaged.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = read_log(folder / LOG_FILE)
    figure = Figure(figsize=(9, 8), layout="constrained")
    figure.suptitle(title, parse_math=False)
    losses, scores, rates = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    _draw_losses(losses, rows)
    _draw_scores(scores, rows, score)
    rates.plot(*series(rows, "lr"), color=COLORS[1])
    rates.set_ylabel("learning rate")
    rates.set_ylim(bottom=0)
    rates.set_xlabel("iteration")
    rates.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (losses, scores, rates):
        axes.grid(color="#e5e7eb")
        axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_atomically(folder / CURVES_FILE, picture.getvalue())
    return folder / CURVES_FILE


def series(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """Return the iterations at which there is a finite number of a name, and the numbers."""
    there = [(row[STEP], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
    return [step for step, _ in there], [value for _, value in there]


def smoothed(values: Sequence[float], width: int) -> np.ndarray:
    """Return the mean of each value and its neighbours, at most `width` in all; fewer at the ends."""
    before = np.concatenate(([0.0], np.cumsum(values)))
    half = width // 2
    places = np.arange(len(values))
    reach = np.minimum(half, np.minimum(places, len(values) - 1 - places))  # symmetric, so that slopes stay
    result: np.ndarray = (before[places + reach + 1] - before[places - reach]) / (2 * reach + 1)
    return result


def loss_names(rows: Sequence[Row]) -> list[str]:
    """Return the columns of losses, the total first, without those that are always 0."""
    parts = sorted({name for row in rows for name in row if name.startswith("loss_")})
    return ["loss", *(name for name in parts if any(series(rows, name)[1]))]


def _draw_losses(axes: Axes, rows: Sequence[Row]) -> None:
    for name, color in zip(loss_names(rows), COLORS, strict=False):
        steps, values = series(rows, name)
        label = "all" if name == "loss" else name.removeprefix("loss_")
        if len(values) < 20:
            axes.plot(steps, values, color=color, label=label, marker="o", markersize=3)
        else:
            axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
            axes.plot(steps, smoothed(values, len(values) // 15), color=color, label=label)
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    if axes.has_data():
        axes.legend(frameon=False)


def _draw_scores(axes: Axes, rows: Sequence[Row], score: str) -> None:
    stages = {name: None for row in rows for name in row if name.startswith("val/") and name.endswith(f"/{score}")}
    for name, color in zip(stages, COLORS, strict=False):
        axes.plot(*series(rows, name), color=color, marker="o", markersize=4, label=name.split("/")[1])
    steps, values = series(rows, SCORE)
    axes.set_ylabel(f"{score} on val, %")
    if not values:
        axes.text(0.5, 0.5, "no evaluation yet", transform=axes.transAxes, ha="center", color="#8a8f98")
        return
    best = int(np.argmax(values))
    axes.axhline(values[best], color="#8a8f98", linewidth=0.8, linestyle="--")
    axes.plot(steps[best], values[best], marker="*", markersize=13, color="black", linestyle="none", label="best")
    place = (steps[best], values[best])
    axes.annotate(f"{values[best]:.2f}", place, textcoords="offset points", xytext=(0, -16), ha="center")
    axes.legend(frameon=False, loc="lower right")
