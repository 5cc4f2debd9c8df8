"""Charts of a report, as SVG text."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pointrend.report.quality import QualityPoint
from pointrend.report.trimap import WIDTHS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#8a8f98", "#c2410c")
"""Of the coarse prediction and of the rendered one, everywhere in a report."""
MAX_CONFUSION = 30
"""The maximum number of classes of a drawn confusion matrix."""


def trimap_chart(curves: Mapping[str, Sequence[float]]) -> str:
    """Draw mIoU by the distance to the true boundary, a curve for each stage."""

    def draw(axes: Axes) -> None:
        for (stage, values), color in zip(curves.items(), COLORS, strict=True):
            axes.plot(WIDTHS, values, marker="o", markersize=4, color=color, label=stage)
        axes.set_xscale("log", base=2)
        axes.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
        axes.minorticks_off()
        axes.set_xlabel("at most so many pixels from the true boundary")
        axes.set_ylabel("mIoU, %")
        axes.legend(frameon=False)

    return _svg(draw)


def quality_chart(points: Sequence[QualityPoint], number: str, title: str, *, by_time: bool) -> str:
    """Draw one number by the points of a step, or by the milliseconds of rendering."""

    def draw(axes: Axes) -> None:
        x = [point.milliseconds if by_time else point.points for point in points]
        y = [point.scores[number] for point in points]
        axes.plot(x, y, marker="o", markersize=4, color=COLORS[1])
        for point, across, up in zip(points, x, y, strict=True):
            axes.annotate(f"{point.points:,}", (across, up), textcoords="offset points", xytext=(4, -11), fontsize=8)
        if not by_time:
            axes.set_xscale("log", base=4)
            axes.set_xticks(x, [f"{value:,}" for value in x], fontsize=8)
            axes.minorticks_off()
        axes.margins(0.1)
        axes.set_xlabel("milliseconds of rendering an image (median)" if by_time else "points of a step")
        axes.set_ylabel(f"{title}, %")

    return _svg(draw)


def confusion_chart(confusion: np.ndarray, names: Sequence[str]) -> str:
    """Draw a confusion matrix in percent of each true class's pixels."""
    ratios = 100 * confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))

    def draw(axes: Axes) -> None:
        axes.imshow(ratios, cmap="Oranges", vmin=0, vmax=100)
        for row, column in np.ndindex(ratios.shape):
            if ratios[row, column] >= 0.5:
                shade = "white" if ratios[row, column] > 60 else "black"
                text = f"{ratios[row, column]:.0f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=shade)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    side = max(4.2, 0.34 * len(names) + 1.8)
    return _svg(draw, size=(side, side), grid=False)


def _svg(draw: Callable[[Axes], None], *, size: tuple[float, float] = (6.0, 3.6), grid: bool = True) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    draw(axes)
    if grid:
        axes.grid(color="#e5e7eb")
        axes.spines[["top", "right"]].set_visible(False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
