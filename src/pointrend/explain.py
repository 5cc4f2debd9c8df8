"""The paper's picture of a prediction (its figures 1 and 4): where the points fell, and what they changed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core import SubdivisionStep, labels_of, uncertainty
from pointrend.files import atomic_path
from pointrend.predict import Dense, SemanticPredictor
from pointrend.results import SOFTWARE, SemanticResult
from pointrend.viz import is_background

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW_SHARE = 0.22
"""The window's edge as a share of the image's shortest edge ..."""
WINDOW_CELLS = 16
"""... but at least so many coarse cells: fewer show nothing."""
PANEL_INCHES = 4.6
POINT_COLOR = "#ffee00"


@dataclass(frozen=True)
class Window:
    """A part of the network's input, in its pixels: x from `left` to `right`, y from `top` to `bottom`."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Rendering:
    """A prediction with all that happened on the way."""

    dense: Dense
    steps: tuple[SubdivisionStep, ...]
    coarse_labels: np.ndarray
    """(H, W), the coarse logits upsampled bilinearly."""
    labels: np.ndarray
    """(H, W), the result."""


def predict_and_keep(predictor: SemanticPredictor, pixels: np.ndarray, path: Path) -> tuple[SemanticResult, Rendering]:
    """What `predictor.predict` gives, by the dense reference, and the rendering it came from, which `explain` takes."""
    rendering = render(predictor, pixels)
    return predictor.result(torch.from_numpy(rendering.labels), pixels, path), rendering


def save_explanation(
    predictor: SemanticPredictor, pixels: np.ndarray, path: Path, *, rendering: Rendering | None = None
) -> None:
    """Draw `explain(predictor, pixels, rendering=rendering)` to a PNG, atomically."""
    figure = explain(predictor, pixels, rendering=rendering)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": SOFTWARE})


def explain(predictor: SemanticPredictor, pixels: np.ndarray, *, rendering: Rendering | None = None) -> Figure:
    """A matplotlib figure of how an image was rendered, zoomed into the window where rendering changed most.

    Panels: the photograph with the window marked; the coarse labels, cell by cell; for each step the upsampled labels
    and the points that were predicted anew; the uncertainty that chose the last ones; the result.

    Args:
        predictor: its settings are used.
        pixels: (H, W, 3) uint8 RGB.
        rendering: of `pixels` by `predictor`, if it is there already.
    """
    from matplotlib.figure import Figure

    rendering = rendering or render(predictor, pixels)
    dense, coarse = rendering.dense, rendering.dense.output.coarse
    columns = math.ceil((len(rendering.steps) + 4) / 2)
    figure = Figure(dpi=130, layout="constrained")
    axes = iter(figure.subplots(2, columns, squeeze=False).flat)
    painter = _Painter(predictor, pixels, dense, choose_window(rendering))

    painter.whole(next(axes), title="the photograph")
    painter.labels(next(axes), _grid_labels(coarse), dense.padded, title=f"coarse prediction, {_size(coarse)}")
    before, doubt = coarse, uncertainty(coarse, dim=1)
    for number, step in enumerate(rendering.steps, start=1):
        upsampled = F.interpolate(before.float(), size=step.logits.shape[2:], mode="bilinear", align_corners=False)
        title = f"step {number}: {step.points.shape[1]} points on {_size(upsampled)}"
        panel = next(axes)
        painter.labels(panel, _grid_labels(upsampled), dense.padded, title=title)
        painter.points(panel, step)
        before, doubt = step.logits, step.uncertainty
    painter.uncertainty(next(axes), doubt, title="uncertainty: second best / best class")
    painter.labels(next(axes), rendering.labels, dense.valid, title=f"result, {dense.size[0]} x {dense.size[1]}")
    for unused in axes:
        unused.remove()
    legend_rows = painter.legend(figure, columns=2 * columns)
    figure.set_size_inches(columns * PANEL_INCHES, 2 * (PANEL_INCHES + 0.5) + 0.35 * legend_rows)
    return figure


def render(predictor: SemanticPredictor, pixels: np.ndarray) -> Rendering:
    """Predict, and keep the steps."""
    dense = predictor.dense(pixels)
    steps = tuple(predictor.subdivision_steps(dense))
    last = steps[-1].logits if steps else dense.output.coarse
    return Rendering(
        dense=dense,
        steps=steps,
        coarse_labels=predictor.coarse_labels(dense).cpu().numpy(),
        labels=predictor.image_labels(last, dense).cpu().numpy(),
    )


def choose_window(rendering: Rendering) -> Window:
    """The square window where rendering changed most at coarse boundaries; where nothing changed, with most points.

    It lies inside of the image and is as large as `WINDOW_SHARE` and `WINDOW_CELLS` say; a smaller image is taken
    whole.
    """
    height, width = rendering.dense.valid
    edge = max(WINDOW_SHARE * min(height, width), WINDOW_CELLS * 4)
    changed = torch.from_numpy(rendering.coarse_labels != rendering.labels).float()[None, None]
    # One value an input pixel is plenty to choose a place.
    interest = F.adaptive_avg_pool2d(changed, (height, width)) * _coarse_boundary(
        rendering.coarse_labels, (height, width)
    )
    if rendering.steps:
        interest = interest + 1e-3 * _point_map(rendering.steps[-1], rendering.dense)
    box = (min(height, round(edge)), min(width, round(edge)))
    sums = F.avg_pool2d(interest, box, stride=1)[0, 0]
    if float(sums.max()) == 0:
        top, left = (height - box[0]) // 2, (width - box[1]) // 2
    else:
        top, left = divmod(int(sums.argmax()), sums.shape[1])
    return Window(left=left, top=top, right=left + box[1], bottom=top + box[0])


def _coarse_boundary(labels: np.ndarray, size: tuple[int, int]) -> Tensor:
    """(1, 1, h, w): 1 less than two coarse cells from where coarse labels (H, W) change, else 0."""
    coarse = torch.from_numpy(labels).float()[None, None]
    coarse = F.interpolate(coarse, size=size, mode="nearest")
    largest = F.max_pool2d(coarse, kernel_size=15, stride=1, padding=7)
    smallest = -F.max_pool2d(-coarse, kernel_size=15, stride=1, padding=7)
    return (largest != smallest).float()


def _point_map(step: SubdivisionStep, dense: Dense) -> Tensor:
    """(1, 1, h, w): how many of a step's points fell into each input pixel of the image."""
    height, width = dense.padded
    x, y = (step.points[0].cpu() * torch.tensor([width, height])).long().unbind(1)
    counts = torch.bincount(y.clamp(max=height - 1) * width + x.clamp(max=width - 1), minlength=height * width)
    return counts.view(1, 1, height, width)[:, :, : dense.valid[0], : dense.valid[1]].float()


def _grid_labels(logits: Tensor) -> np.ndarray:
    labels: np.ndarray = labels_of(logits, dim=1)[0].cpu().numpy()
    return labels


def _size(maps: Tensor) -> str:
    return f"{maps.shape[2]} x {maps.shape[3]}"


class _Painter:
    """Draws maps of different resolution in one frame: pixels of the network's input."""

    def __init__(self, predictor: SemanticPredictor, pixels: np.ndarray, dense: Dense, window: Window) -> None:
        self.classes = predictor.spec.classes
        self.pixels = pixels
        self.dense = dense
        self.window = window
        self.seen: set[int] = set()

    def whole(self, axes: Axes, *, title: str) -> None:
        from matplotlib.patches import Rectangle

        height, width = self.dense.valid
        # A screen shows no more than this of a large photograph.
        stride = max(1, max(self.pixels.shape[:2]) // 1200)
        axes.imshow(self.pixels[::stride, ::stride], extent=(0, width, height, 0), aspect="equal")
        corner = (self.window.left, self.window.top)
        size = (self.window.right - self.window.left, self.window.bottom - self.window.top)
        for line, color in ((4.0, "black"), (2.0, POINT_COLOR)):
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=line))
        _bare(axes, title)

    def labels(self, axes: Axes, labels: np.ndarray, frame: tuple[int, int], *, title: str) -> None:
        """Labels (h, w) that cover `frame` (H, W) of the input, as sharp squares on the photograph."""
        part, extent = self._part(self.pixels, self.dense.valid)
        axes.imshow(part, extent=extent, interpolation="nearest")
        part, extent = self._part(labels, frame)
        self.seen.update(int(i) for i in np.unique(part))
        axes.imshow(self._rgba(part), extent=extent, interpolation="nearest")
        self._zoom(axes, title)

    def points(self, axes: Axes, step: SubdivisionStep) -> None:
        height, width = self.dense.padded
        points = step.points[0].cpu().numpy() * (width, height)
        window = self.window
        inside = (
            (points[:, 0] >= window.left)
            & (points[:, 0] <= window.right)
            & (points[:, 1] >= window.top)
            & (points[:, 1] <= window.bottom)
        )
        # A dot of half a grid cell, in typographic points.
        cell = PANEL_INCHES * 72 * (width / step.logits.shape[3]) / (window.right - window.left)
        diameter = min(8.0, max(1.2, 0.5 * cell))
        x, y = points[inside].T
        edge = min(0.6, diameter / 8)
        axes.scatter(x, y, s=diameter**2, c=POINT_COLOR, edgecolors="black", linewidths=edge)

    def uncertainty(self, axes: Axes, values: Tensor, *, title: str) -> None:
        """`values` (1, h, w): the negative margin of logits, whose exponential is the ratio of probabilities."""
        part, extent = self._part(values[0].float().exp().cpu().numpy(), self.dense.padded)
        axes.imshow(part, extent=extent, interpolation="nearest", cmap="magma", vmin=0, vmax=1)
        self._zoom(axes, title)

    def legend(self, figure: Figure, *, columns: int) -> int:
        """The classes that were drawn; returns the number of rows."""
        from matplotlib.patches import Patch

        patches = [
            Patch(
                facecolor="#{:02x}{:02x}{:02x}".format(*self.classes[i].color),
                edgecolor="black",
                label=self.classes[i].name,
            )
            for i in sorted(self.seen)
        ]
        figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=14, frameon=False)
        return math.ceil(len(patches) / columns)

    def _rgba(self, labels: np.ndarray) -> np.ndarray:
        table = [(*c.color, 40 if is_background(i, c) else 150) for i, c in enumerate(self.classes)]
        rgba: np.ndarray = np.array(table, np.uint8)[labels]
        return rgba

    def _part(self, array: np.ndarray, frame: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float, float, float]]:
        """The cells of an array over `frame` that touch the window, and where they lie (left, right, bottom, top)."""
        rows, columns = frame[0] / array.shape[0], frame[1] / array.shape[1]
        top, bottom = _cells(self.window.top, self.window.bottom, rows, array.shape[0])
        left, right = _cells(self.window.left, self.window.right, columns, array.shape[1])
        extent = (left * columns, right * columns, bottom * rows, top * rows)
        return array[top:bottom, left:right], extent

    def _zoom(self, axes: Axes, title: str) -> None:
        axes.set_xlim(self.window.left, self.window.right)
        axes.set_ylim(self.window.bottom, self.window.top)
        axes.set_aspect("equal")
        _bare(axes, title)


def _cells(start: float, stop: float, cell: float, count: int) -> tuple[int, int]:
    first = min(count - 1, math.floor(start / cell))
    return first, max(first + 1, min(count, math.ceil(stop / cell)))


def _bare(axes: Axes, title: str) -> None:
    axes.set_xticks(())
    axes.set_yticks(())
    axes.set_title(title, fontsize=15)
