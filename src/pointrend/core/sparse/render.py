"""Rendering near boundaries only: the labels of `subdivide`, resized, without its C maps of every size.

A bilinear resize makes each new pixel a convex combination of four. Where these have the same best class, so has the
new pixel, and its margin (best minus second logit) is at least the smallest of theirs, because every difference of two
logits is linear. The same holds of independent classes, each of which is compared with 0: where all four are of the
same classes, so is the new pixel, and its margin, the smallest |logit|, is at least the smallest of theirs. So logits
are needed in cells whose corners disagree, and where the smallest margins may be.

Shapes: N images, C classes, H W the output, h w the coarse grid, P points of a step, M pixels of a grid.

What is the same as in the reference, and what cannot be: among margins closer than `8 * eps * max |logit|` either may
be chosen, there as here; with the same points, labels are the same where margins are larger than this.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pointrend.core.points import pixel_centers
from pointrend.core.settings import Subdivision
from pointrend.core.sparse.cells import mixed_cells, repeated, smallest_in_cells, spread
from pointrend.core.sparse.grids import (
    CACHE_BYTES,
    CHUNK,
    AllRows,
    Axis,
    Grid,
    Rows,
    best_two,
    bilinear_axis,
    bits_and_margins,
    corner_slots,
    interpolated,
    label_type,
)
from pointrend.core.sparse.rendering import Rendering
from pointrend.core.subdivision import PointPredictor
from pointrend.core.uncertainty import check_number

DENSE_RATIO = 4
"""Grids with at most DENSE_RATIO * num_points pixels are computed densely: most pixels would be visited anyway."""


@dataclass(frozen=True)
class Resize:
    """A bilinear resize after the last subdivision step.

    A model that pads its input crops to what is image before the last resize.
    """

    size: tuple[int, int]
    """(H, W) of the result."""
    crop: tuple[int, int] | None = None
    """(H, W): the part of the grid before that is resized, from its upper left corner; None takes all of it."""


@torch.no_grad()
def render_labels(
    logits: Tensor,
    predict: PointPredictor,
    subdivision: Subdivision,
    *,
    resizes: tuple[Resize, ...] = (),
    independent: bool = False,
) -> Tensor:
    """Return labels after adaptive subdivision (paper, section 3.1), computed only near boundaries.

    The same as `labels_of(resized(subdivide(logits, predict, ...)), dim=1)`, see the module.

    Args:
        logits: (N, C, h, w), the coarse prediction.
        predict: gives logits at points (N, P, 2).
        subdivision: the points of a step and the number of steps.
        resizes: bilinear resizes after the last step, in this order.
        independent: classes do not exclude each other: see `labels_of`.

    Returns:
        (N, H, W): uint8 for up to 256 labels, int32 for more.

    Raises:
        ValueError: logits are not finite.
    """
    made = renderings(logits, predict, subdivision, resizes=resizes, independent=independent)
    return torch.stack([one.labels for one in made])


@torch.no_grad()
def renderings(
    logits: Tensor,
    predict: PointPredictor,
    subdivision: Subdivision,
    *,
    resizes: tuple[Resize, ...] = (),
    keep_logits: bool = False,
    independent: bool = False,
) -> list[Rendering]:
    """Render as `render_labels` does, and return each image's rendering; `keep_logits` keeps what logits need."""
    logits = logits.detach() if logits.is_floating_point() and logits.element_size() >= 4 else logits.float()
    images = [_Image(one, independent=independent) for one in logits]
    for step in range(subdivision.steps):
        more = step + 1 < subdivision.steps
        chosen = [
            image.double(subdivision.num_points, bounded=more, remembered=more or bool(resizes) or keep_logits)
            for image in images
        ]
        predicted = predict(torch.stack([pixel_centers(p, i.grid.size) for i, p in zip(images, chosen, strict=True)]))
        for image, pixels, rows in zip(images, chosen, predicted.to(logits.dtype), strict=True):
            image.write(pixels, rows)
    for index, resize in enumerate(resizes):
        for image in images:
            image.resize(resize, remembered=keep_logits or index + 1 < len(resizes))
    return [Rendering(image.grid) for image in images]


def resized(rendering: Rendering, resize: Resize) -> Rendering:
    """Return a rendering that keeps its logits, resized once more."""
    return Rendering(_resized(rendering.grid, resize, remembered=True))


class _Image:
    """One image on its way from grid to grid."""

    def __init__(self, logits: Tensor, *, independent: bool) -> None:
        """logits (C, h, w)."""
        measured = bits_and_margins if independent else best_two
        classes, height, width = logits.shape
        pixels = logits.flatten(1).t()
        parts = [measured(part) for part in pixels.split(CHUNK)]  # type: ignore[no-untyped-call]
        data = pixels.contiguous()  # rows; as it is where the logits are channels-last
        labels, margins = (torch.cat(part).view(height, width) for part in zip(*parts, strict=True))
        self.largest = check_number(float(torch.stack(data.aminmax()).abs().amax()), "coarse logits")
        self.grid = Grid(
            size=(height, width),
            rows=AllRows(data),
            labels=labels.to(label_type(classes, independent=independent)),
            bound=margins,
            independent=independent,
        )

    def double(self, num_points: int, *, bounded: bool, remembered: bool) -> Tensor:
        """Go on to the grid of twice the size, and return the N least certain pixels (P,) of it."""
        before = self.grid
        axes = [bilinear_axis(side, 2 * side, before.labels.device, doubled=True) for side in before.size]
        height, width = (len(axis.lower) for axis in axes)
        if height * width <= DENSE_RATIO * num_points:
            self.grid = _whole(before, axes[0], axes[1])
            assert self.grid.bound is not None
            return self.grid.bound.flatten().topk(min(num_points, height * width), largest=False, sorted=False).indices
        step = _Step(before, axes[0], axes[1], bounded=bounded, remembered=remembered)
        self.grid = step.grid
        found = _Smallest(num_points)
        step.compute(step.mixed(), found)
        while len(found) < num_points:
            step.compute(step.least_certain(-(-(num_points - len(found)) // 4)), found)
        # Margins closer than this count as tied.
        tie = 8 * torch.finfo(torch.float32).eps * self.largest
        step.compute(step.below(found.largest() - tie), found)
        return found.pixels()

    def resize(self, resize: Resize, *, remembered: bool) -> None:
        """Go on to a grid of any size."""
        self.grid = _resized(self.grid, resize, remembered=remembered)

    def write(self, pixels: Tensor, rows: Tensor) -> None:
        """Put predictions (P, C) at pixels (P,)."""
        grid = self.grid
        labels, margins = grid.best_two(rows)
        self.largest = max(self.largest, check_number(float(rows.abs().amax()), "logits at points"))
        grid.labels.view(-1)[pixels] = labels.to(grid.labels.dtype)
        if grid.bound is not None:
            grid.bound.view(-1)[pixels] = margins
        if grid.rows is not None:
            grid.rows.keep(pixels, rows)


class _Step:
    """The way from one grid to the next. All new pixels of a cell read the same four corners. Without a crop, the
    grid is doubled."""

    def __init__(
        self,
        before: Grid,
        rows: Axis,
        columns: Axis,
        *,
        bounded: bool,
        remembered: bool,
        crop: tuple[int, int] | None = None,
    ) -> None:
        self._before, self._rows, self._columns = before, rows, columns
        height, width = crop or before.size
        labels = before.labels[:height, :width]
        self._mixed = mixed_cells(labels)
        bound = None if before.bound is None else smallest_in_cells(before.bound[:height, :width])
        size = (len(rows.lower), len(columns.lower))
        assert before.rows is not None
        classes = before.rows.data.shape[1]
        self.grid = Grid(
            size=size,
            rows=Rows(
                size[0] * size[1],
                lambda pixels, out: out.copy_(interpolated(before, rows, columns, pixels)),
                classes=classes,
                like=before.rows.data,
                limit=CACHE_BYTES // (4 * classes),
            )
            if remembered
            else None,
            labels=repeated(labels) if crop is None else spread(labels, rows, columns),
            bound=spread(bound, rows, columns) if bounded and bound is not None else None,
            sources=(before,) if remembered else (),
            independent=before.independent,
        )
        self._bound = bound if bound is None else bound.masked_fill_(self._mixed, torch.inf)

    def mixed(self) -> Tensor:
        """Return the cells whose corners have different labels."""
        return self._mixed.flatten().nonzero()[:, 0]

    def least_certain(self, count: int) -> Tensor:
        """Return the cells with the smallest bounds among those not computed yet: `count` of them, or all."""
        assert self._bound is not None
        bounds, cells = self._bound.flatten().topk(min(count, self._bound.numel()), largest=False, sorted=False)
        cells = cells[bounds < torch.inf]
        if not len(cells):
            raise ValueError("logits must be finite: there are no margins to go by")
        return self._taken(cells)

    def below(self, margin: float) -> Tensor:
        """Return the cells not computed yet that may have a margin under this one."""
        assert self._bound is not None
        return self._taken((self._bound.flatten() < margin).nonzero()[:, 0])

    def _taken(self, cells: Tensor) -> Tensor:
        assert self._bound is not None
        self._bound.view(-1)[cells] = torch.inf
        return cells

    def compute(self, cells: Tensor, found: _Smallest | None) -> None:
        """Compute labels, and margins and logits if they are asked for, of all pixels of these cells."""
        grid = self.grid
        for part in cells.split(CHUNK // 4):  # type: ignore[no-untyped-call]
            y, x = part.div(self._mixed.shape[1], rounding_mode="floor"), part.remainder(self._mixed.shape[1])
            # Corners are looked up once a cell, not once a pixel.
            corners = corner_slots(self._before, self._rows, self._columns, y, x)
            pixels, cell = self._pixels(y, x)
            logits = interpolated(self._before, self._rows, self._columns, pixels, corners[cell])
            labels, margins = grid.best_two(logits)
            grid.labels.view(-1)[pixels] = labels.to(grid.labels.dtype)
            if grid.bound is not None:
                grid.bound.view(-1)[pixels] = margins
            if isinstance(grid.rows, Rows):
                grid.rows.add(pixels, logits)
            if found is not None:
                found.add(pixels, margins)

    def _pixels(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels (M,) of cells at row `y` and column `x` (K,), and for each the number of its cell (M,)."""
        rows, columns = self._rows, self._columns
        wide = columns.count[x]
        count = rows.count[y] * wide
        cell = torch.arange(len(y), device=y.device).repeat_interleave(count)
        number = torch.arange(len(cell), device=y.device) - (count.cumsum(0) - count)[cell]
        first, wide = (rows.first[y] * len(columns.lower) + columns.first[x])[cell], wide[cell]
        return first + number.div(wide, rounding_mode="floor") * len(columns.lower) + number.remainder(wide), cell


class _Smallest:
    """Keeps the pixels with the N smallest margins of all that are added."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pixels: list[Tensor] = []
        self._margins: list[Tensor] = []
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def add(self, pixels: Tensor, margins: Tensor) -> None:
        self._pixels.append(pixels)
        self._margins.append(margins)
        self._total += len(pixels)
        if self._total > 4 * (self._count + CHUNK):
            self._prune()

    def largest(self) -> float:
        """Return the largest of the N smallest margins."""
        self._prune()
        return float(self._margins[0].amax())

    def pixels(self) -> Tensor:
        """(N,)."""
        self._prune()
        return self._pixels[0]

    def _prune(self) -> None:
        if self._total > self._count:
            margins, chosen = torch.cat(self._margins).topk(self._count, largest=False, sorted=False)
            self._pixels, self._margins = [torch.cat(self._pixels)[chosen]], [margins]
        else:
            self._pixels, self._margins = [torch.cat(self._pixels)], [torch.cat(self._margins)]
        self._total = self._count


def _resized(before: Grid, resize: Resize, *, remembered: bool) -> Grid:
    """Return a grid of any size; `remembered` if its logits will be asked for."""
    crop = resize.crop or before.size
    if crop == before.size == resize.size:
        return before
    rows, columns = (bilinear_axis(a, b, before.labels.device) for a, b in zip(crop, resize.size, strict=True))
    step = _Step(before, rows, columns, bounded=False, remembered=remembered, crop=crop)
    step.compute(step.mixed(), None)
    return step.grid


def _whole(before: Grid, rows: Axis, columns: Axis) -> Grid:
    """Return the next grid, computed at every pixel."""
    size = (len(rows.lower), len(columns.lower))
    data = interpolated(before, rows, columns, torch.arange(size[0] * size[1], device=before.labels.device))
    labels, margins = before.best_two(data)
    return Grid(
        size,
        AllRows(data),
        labels.to(before.labels.dtype).view(size),
        margins.view(size),
        independent=before.independent,
    )
