"""An image of how a prediction was rendered (as figures 1 and 4 of the paper): the points, and their effect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core import SubdivisionStep, labels_of, uncertainty
from pointrend.errors import PointRendError
from pointrend.files import atomic_path
from pointrend.inputs import Frame
from pointrend.models import SemanticOutput
from pointrend.predict import Encoded, Predictor, SemanticPredictor
from pointrend.results import SOFTWARE, SemanticResult
from pointrend.tasks import TASKS
from pointrend.viz import is_background

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW_RATIO = 0.22
"""Ratio of the window's edge to the image's shortest edge."""
WINDOW_CELLS = 16
"""Minimum edge of the window, in coarse cells."""
REACH = 7
"""Pixels of the network's input, nearly two cells of stride 4, by which rendering may move a boundary."""
PANEL_INCHES = 4.6
POINT_COLOR = "#ffee00"


@dataclass(frozen=True)
class Window:
    """A rectangle of the network's input, in pixels."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Rendering:
    """A prediction with all steps of its rendering."""

    encoded: Encoded[SemanticOutput]
    steps: tuple[SubdivisionStep, ...]
    coarse_labels: np.ndarray
    """(H, W) labels of the coarse logits, upsampled bilinearly."""
    labels: np.ndarray
    """(H, W) final labels."""
    second: np.ndarray | None = None
    """(H, W) final labels of the mirror image, mirrored back: a second opinion on what rendering changed."""


def predict_and_keep(predictor: SemanticPredictor, pixels: np.ndarray, path: Path) -> tuple[SemanticResult, Rendering]:
    """Predict by the reference renderer, and return the result and the rendering for `explain`."""
    rendering = render(predictor, pixels)
    return predictor.result(torch.from_numpy(rendering.labels), pixels, path), rendering


def save_explanation(
    predictor: Predictor[Any, Any, Any, Any], pixels: np.ndarray, path: Path, *, rendering: Rendering | None = None
) -> None:
    """Save the figure of `explain` as a PNG, atomically.

    Raises:
        PointRendError: the model labels no pixels.
    """
    if not (isinstance(predictor, SemanticPredictor) and TASKS[predictor.spec.task].explains):
        found = f"{predictor.spec.name} {predictor.does}"
        raise PointRendError(f"explain draws label maps of one class a pixel, but {found}")
    figure = explain(predictor, pixels, rendering=rendering)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": SOFTWARE})


def explain(predictor: SemanticPredictor, pixels: np.ndarray, *, rendering: Rendering | None = None) -> Figure:
    """Return a matplotlib figure of how an image was rendered, enlarged in the window that `choose_window` picks.

    Panels: the image with the window; the coarse labels; for each step the upsampled labels and the points that were
    predicted; the uncertainty by which the last points were chosen; the result.

    Args:
        predictor: the model with its settings.
        pixels: (H, W, 3) uint8 RGB.
        rendering: of `pixels` by `predictor`; None renders first.
    """
    from matplotlib.figure import Figure

    rendering = rendering or render(predictor, pixels)
    frame, coarse = rendering.encoded.frame, predictor.network.start(rendering.encoded.output)
    columns = math.ceil((len(rendering.steps) + 4) / 2)
    figure = Figure(dpi=130, layout="constrained")
    axes = iter(figure.subplots(2, columns, squeeze=False).flat)
    painter = _Painter(predictor, pixels, frame, choose_window(rendering))

    painter.whole(next(axes), title="the image")
    painter.labels(next(axes), _grid_labels(coarse), frame.padded, title=f"coarse prediction, {_size(coarse)}")
    logits, doubt = coarse, uncertainty(coarse, dim=1)
    for number, step in enumerate(rendering.steps, start=1):
        upsampled = F.interpolate(logits.float(), size=step.logits.shape[2:], mode="bilinear", align_corners=False)
        title = f"step {number}: {step.points.shape[1]} points on {_size(upsampled)}"
        panel = next(axes)
        painter.labels(panel, _grid_labels(upsampled), frame.padded, title=title)
        painter.points(panel, step)
        logits, doubt = step.logits, step.uncertainty
    painter.uncertainty(next(axes), doubt, title="uncertainty: second best / best class")
    painter.labels(next(axes), rendering.labels, frame.valid, title=f"result, {frame.size[0]} x {frame.size[1]}")
    for unused in axes:
        unused.remove()
    legend_rows = painter.legend(figure, columns=2 * columns)
    figure.set_size_inches(columns * PANEL_INCHES, 2 * (PANEL_INCHES + 0.5) + 0.35 * legend_rows)
    return figure


def render(predictor: SemanticPredictor, pixels: np.ndarray) -> Rendering:
    """Predict by the reference renderer, and return all steps.

    Raises:
        PointRendError: the predictor sees images in several passes or in windows.
    """
    if not predictor.options.single:
        raise PointRendError("explain draws one rendering of the whole image: leave out scales, flip and slide")
    encoded = predictor.encode(pixels)
    steps = tuple(predictor.subdivision_steps(encoded))
    last = steps[-1].logits if steps else predictor.network.start(encoded.output)
    mirrored = predictor.rendered_labels(predictor.encode(pixels[:, ::-1].copy()))
    return Rendering(
        encoded=encoded,
        steps=steps,
        coarse_labels=predictor.coarse_labels(encoded).cpu().numpy(),
        labels=predictor.image_labels(last, encoded).cpu().numpy(),
        second=mirrored.flip(1).cpu().numpy(),
    )


def choose_window(rendering: Rendering) -> Window:
    """Choose the square window in which rendering moved most of a boundary; if it moved none, that with most points.

    Only what the mirror image's rendering has moved likewise counts, and what it has left counts against: a change that
    is seen twice is more likely right. The window lies within the image, with the size of `WINDOW_RATIO` and
    `WINDOW_CELLS`, or that of a smaller image.
    """
    height, width = rendering.encoded.frame.valid
    edge = max(WINDOW_RATIO * min(height, width), WINDOW_CELLS * 4)
    interest = _moved_boundary(rendering.coarse_labels, rendering.labels, (height, width))
    if rendering.second is not None:
        agrees, differs = (
            _resized(rendering.second == labels, (height, width))
            for labels in (rendering.labels, rendering.coarse_labels)
        )
        interest = interest * (agrees - differs)
    if rendering.steps:
        interest = interest + 1e-3 * _point_map(rendering.steps[-1], rendering.encoded.frame)
    box = (min(height, round(edge)), min(width, round(edge)))
    sums = F.avg_pool2d(interest, box, stride=1)[0, 0]
    if not float(sums.max()) > 0:
        top, left = (height - box[0]) // 2, (width - box[1]) // 2
    else:
        top, left = divmod(int(sums.argmax()), sums.shape[1])
    return Window(left=left, top=top, right=left + box[1], bottom=top + box[0])


def _moved_boundary(coarse: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Return (1, 1, h, w): 1 where a boundary between two classes moved by at most `REACH` pixels, else 0.

    There, the label changed to one that the coarse labels (H, W) have nearby, from one that the final labels have
    nearby. Patches of another class, right or wrong, are no moved boundaries.
    """
    before, after = (_resized(array, size) for array in (coarse, labels))
    changed = before != after
    gained, lost = torch.zeros_like(changed), torch.zeros_like(changed)
    for label in torch.unique(after[changed]).tolist():
        gained |= changed & (after == label) & _near(before == label)
    for label in torch.unique(before[changed]).tolist():
        lost |= changed & (before == label) & _near(after == label)
    return (gained & lost).float()


def _resized(array: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Return labels or a mask (H, W) as (1, 1, h, w) float32, by nearest neighbour."""
    return F.interpolate(torch.from_numpy(array).float()[None, None], size=size, mode="nearest")


def _near(mask: Tensor) -> Tensor:
    return F.max_pool2d(mask.float(), kernel_size=2 * REACH + 1, stride=1, padding=REACH) > 0


def _point_map(step: SubdivisionStep, frame: Frame) -> Tensor:
    """Return (1, 1, h, w): the number of a step's points in each input pixel of the image."""
    height, width = frame.padded
    x, y = (step.points[0].cpu() * torch.tensor([width, height])).long().unbind(1)
    counts = torch.bincount(y.clamp(max=height - 1) * width + x.clamp(max=width - 1), minlength=height * width)
    return counts.view(1, 1, height, width)[:, :, : frame.valid[0], : frame.valid[1]].float()


def _grid_labels(logits: Tensor) -> np.ndarray:
    labels: np.ndarray = labels_of(logits, dim=1)[0].cpu().numpy()
    return labels


def _size(maps: Tensor) -> str:
    return f"{maps.shape[2]} x {maps.shape[3]}"


class _Painter:
    """A painter of maps of different resolution in one frame, the pixels of the network's input."""

    def __init__(self, predictor: SemanticPredictor, pixels: np.ndarray, frame: Frame, window: Window) -> None:
        self.classes = predictor.spec.classes
        self.pixels = pixels
        self.frame = frame
        self.window = window
        self.seen: set[int] = set()

    def whole(self, axes: Axes, *, title: str) -> None:
        from matplotlib.patches import Rectangle

        height, width = self.frame.valid
        # A large image needs no more than screen resolution.
        stride = max(1, max(self.pixels.shape[:2]) // 1200)
        axes.imshow(self.pixels[::stride, ::stride], extent=(0, width, height, 0), aspect="equal")
        corner = (self.window.left, self.window.top)
        size = (self.window.right - self.window.left, self.window.bottom - self.window.top)
        for line, color in ((4.0, "black"), (2.0, POINT_COLOR)):
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=line))
        _bare(axes, title)

    def labels(self, axes: Axes, labels: np.ndarray, frame: tuple[int, int], *, title: str) -> None:
        """Draw labels (h, w) that cover `frame` (H, W) of the input, as sharp squares over the image."""
        part, extent = self._part(self.pixels, self.frame.valid)
        axes.imshow(part, extent=extent, interpolation="nearest")
        part, extent = self._part(labels, frame)
        self.seen.update(int(i) for i in np.unique(part))
        axes.imshow(self._rgba(part), extent=extent, interpolation="nearest")
        self._zoom(axes, title)

    def points(self, axes: Axes, step: SubdivisionStep) -> None:
        height, width = self.frame.padded
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
        """Draw the ratio of the two best probabilities from `values` (1, h, w), the negative margins of logits."""
        part, extent = self._part(values[0].float().exp().cpu().numpy(), self.frame.padded)
        axes.imshow(part, extent=extent, interpolation="nearest", cmap="magma", vmin=0, vmax=1)
        self._zoom(axes, title)

    def legend(self, figure: Figure, *, columns: int) -> int:
        """Draw a legend of the classes that occur, and return its number of rows."""
        from matplotlib.patches import Patch

        drawn = [self.classes[i] for i in sorted(self.seen)]
        colors = ["#{:02x}{:02x}{:02x}".format(*info.color) for info in drawn]
        patches = [
            Patch(facecolor=color, edgecolor="black", label=info.name)
            for info, color in zip(drawn, colors, strict=True)
        ]
        figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=14, frameon=False)
        return math.ceil(len(patches) / columns)

    def _rgba(self, labels: np.ndarray) -> np.ndarray:
        table = [(*c.color, 40 if is_background(i, c) else 150) for i, c in enumerate(self.classes)]
        rgba: np.ndarray = np.array(table, np.uint8)[labels]
        return rgba

    def _part(self, array: np.ndarray, frame: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float, float, float]]:
        """Return the cells of an array over `frame` that touch the window, with their (left, right, bottom, top)."""
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
