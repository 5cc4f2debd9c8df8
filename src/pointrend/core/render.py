"""Rendering near boundaries only: the labels of `subdivide`, resized, without its C maps of every size.

A bilinear resize makes each new place a convex combination of four. Where these have the same best class, so has the
new place, and its margin (best minus second logit) is at least the smallest of theirs, because every difference of two
logits is linear. So logits are needed in cells whose corners disagree, and where the smallest margins may be.

Shapes: N images, C classes, H W the output, h w the coarse grid, P points of a step, M places of a grid.

What is the same as in the reference, and what cannot be: among margins closer than `8 * eps * max |logit|` either may
be chosen, there as here; with the same points, labels are the same where margins are larger than this.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pointrend.core.cells import mixed_cells, repeated, smallest_in_cells, spread
from pointrend.core.grids import Axis, Dense, Grid, Rows, best_two, bilinear_axis, corner_slots, interpolated
from pointrend.core.points import pixel_centers
from pointrend.core.subdivision import PointPredictor

CHUNK = 2**16
"""Places whose logits are computed at a time."""
DENSE_SHARE = 4
"""A grid of at most this many times N places, at least once, is computed whole: most of it is needed anyway."""
KNOWN_BYTES = 2**27
"""What the logits of a grid may take that are remembered because the next grid may ask for them again."""


@dataclass(frozen=True)
class Resize:
    """A bilinear resize after the last subdivision step.

    A model that pads its input crops to what is image before the last resize.
    """

    size: tuple[int, int]
    """(H, W) of the result."""
    crop: tuple[int, int] | None = None
    """(H, W): only so much of the grid before, from its upper left corner."""


class Rendering:
    """What was rendered for one image: labels, and logits at the places that are asked for.

    Places have the logits that the reference has at the last size, to a few units in the last place.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    @property
    def labels(self) -> Tensor:
        """(H, W): uint8 for up to 256 labels, int32 for more."""
        return self._grid.labels

    def logits(self, window: tuple[int, int, int, int] | None = None) -> Tensor:
        """Logits (C, h, w) of a window.

        Args:
            window: left, top, right, bottom in places of the output; None takes all of it.

        Raises:
            ValueError: the window is empty or not inside.
        """
        places, size = self._places(window)
        parts = [self._rows(part) for part in places.split(CHUNK)]  # type: ignore[no-untyped-call]
        return torch.cat(parts).t().reshape(-1, *size)

    def margins(self, window: tuple[int, int, int, int] | None = None) -> Tensor:
        """How sure labels are (h, w): the best logit minus the second; of one logit its distance from 0."""
        places, size = self._places(window)
        parts = [best_two(self._rows(part))[1] for part in places.split(CHUNK)]  # type: ignore[no-untyped-call]
        return torch.cat(parts).view(size)

    def probabilities(self, k: int, window: tuple[int, int, int, int] | None = None) -> tuple[Tensor, Tensor]:
        """The k likeliest classes, best first: probabilities (k, h, w) and labels (k, h, w).

        Args:
            k: from 1 to the number of classes; of one logit, 2 classes.
            window: as in `logits`.
        """
        places, size = self._places(window)
        values, indices = [], []
        for part in places.split(CHUNK):  # type: ignore[no-untyped-call]
            logits = self._rows(part)
            if logits.shape[1] == 1:
                logits = torch.cat((-logits, logits), dim=1) / 2
            best = logits.softmax(dim=1).topk(k, dim=1)
            values.append(best.values.t())
            indices.append(best.indices.t())
        return torch.cat(values, dim=1).view(k, *size), torch.cat(indices, dim=1).view(k, *size)

    def _rows(self, places: Tensor) -> Tensor:
        rows = self._grid.rows
        assert rows is not None, "render with keep_logits to ask for logits"
        slots = rows.slots(places)
        return rows.data[slots]

    def _places(self, window: tuple[int, int, int, int] | None) -> tuple[Tensor, tuple[int, int]]:
        height, width = self._grid.size
        left, top, right, bottom = window or (0, 0, width, height)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(f"window must be left, top, right, bottom inside of {width} x {height}, got {window}")
        device = self._grid.labels.device
        rows = torch.arange(top, bottom, device=device)[:, None] * width
        return (rows + torch.arange(left, right, device=device)).flatten(), (bottom - top, right - left)


@torch.no_grad()
def render_labels(
    logits: Tensor,
    predict: PointPredictor,
    *,
    num_points: int,
    steps: int,
    resizes: tuple[Resize, ...] = (),
) -> Tensor:
    """Labels after adaptive subdivision (paper, section 3.1), computed only near boundaries.

    The same as `labels_of(resized(subdivide(logits, predict, ...)), dim=1)`, see the module.

    Args:
        logits: (N, C, h, w), the coarse prediction.
        predict: gives logits at points (N, P, 2).
        num_points: the new predictions in each step and image.
        steps: how often the grid is doubled.
        resizes: bilinear resizes after the last step, in this order.

    Returns:
        (N, H, W): uint8 for up to 256 labels, int32 for more.
    """
    made = renderings(logits, predict, num_points=num_points, steps=steps, resizes=resizes)
    return torch.stack([one.labels for one in made])


@torch.no_grad()
def renderings(
    logits: Tensor,
    predict: PointPredictor,
    *,
    num_points: int,
    steps: int,
    resizes: tuple[Resize, ...] = (),
    keep_logits: bool = False,
) -> list[Rendering]:
    """As `render_labels`, of each image; with `keep_logits` what its places need stays in memory."""
    if num_points < 1:
        raise ValueError(f"expected num_points >= 1, got {num_points}")
    logits = logits.detach() if logits.is_floating_point() and logits.element_size() >= 4 else logits.float()
    images = [_Image(one) for one in logits]
    for step in range(steps):
        more = step + 1 < steps
        chosen = [
            image.double(num_points, bounded=more, remembered=more or bool(resizes) or keep_logits) for image in images
        ]
        predicted = predict(torch.stack([pixel_centers(p, i.grid.size) for i, p in zip(images, chosen, strict=True)]))
        for image, places, rows in zip(images, chosen, predicted.to(logits.dtype), strict=True):
            image.write(places, rows)
    for index, resize in enumerate(resizes):
        for image in images:
            image.resize(resize, remembered=keep_logits or index + 1 < len(resizes))
    return [Rendering(image.grid) for image in images]


class _Image:
    """One image on its way through the grids."""

    def __init__(self, logits: Tensor) -> None:
        """logits (C, h, w)."""
        classes, height, width = logits.shape
        places = logits.flatten(1).t()
        parts = [best_two(part) for part in places.split(CHUNK)]  # type: ignore[no-untyped-call]
        data = places.contiguous()  # rows; as it is where the logits are channels-last
        labels, margins = (torch.cat(part).view(height, width) for part in zip(*parts, strict=True))
        self.largest = float(torch.stack(data.aminmax()).abs().amax())
        self.grid = Grid(
            size=(height, width),
            rows=Dense(data),
            labels=labels.to(torch.uint8 if classes <= 256 else torch.int32),
            bound=margins,
        )

    def double(self, num_points: int, *, bounded: bool, remembered: bool) -> Tensor:
        """Go on to the grid of twice the size; the N least certain places (P,) of it."""
        before = self.grid
        axes = [bilinear_axis(side, 2 * side, before.labels.device, doubled=True) for side in before.size]
        height, width = (len(axis.lower) for axis in axes)
        if height * width <= DENSE_SHARE * num_points:
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
        return found.places()

    def resize(self, resize: Resize, *, remembered: bool) -> None:
        """Go on to a grid of any size."""
        before = self.grid
        crop = resize.crop or before.size
        if crop == before.size == resize.size:
            return
        rows, columns = (bilinear_axis(a, b, before.labels.device) for a, b in zip(crop, resize.size, strict=True))
        step = _Step(before, rows, columns, bounded=False, remembered=remembered, crop=crop)
        step.compute(step.mixed(), None)
        self.grid = step.grid

    def write(self, places: Tensor, rows: Tensor) -> None:
        """Put predictions (P, C) at places (P,)."""
        grid = self.grid
        labels, margins = best_two(rows)
        self.largest = max(self.largest, float(rows.abs().amax()))
        grid.labels.view(-1)[places] = labels.to(grid.labels.dtype)
        if grid.bound is not None:
            grid.bound.view(-1)[places] = margins
        if grid.rows is not None:
            grid.rows.keep(places, rows)


class _Step:
    """From one grid to the next: a cell is the places whose four parents are the same. Without a crop it is doubled."""

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
                lambda places, out: out.copy_(interpolated(before, rows, columns, places)),
                classes=classes,
                like=before.rows.data,
                limit=KNOWN_BYTES // (4 * classes),
            )
            if remembered
            else None,
            labels=repeated(labels) if crop is None else spread(labels, rows, columns),
            bound=spread(bound, rows, columns) if bounded and bound is not None else None,
        )
        self._bound = bound if bound is None else bound.masked_fill_(self._mixed, torch.inf)

    def mixed(self) -> Tensor:
        """The cells whose corners have different labels."""
        return self._mixed.flatten().nonzero()[:, 0]

    def least_certain(self, count: int) -> Tensor:
        """So many of the cells that were not computed, or all, of the smallest bounds."""
        assert self._bound is not None
        bounds, cells = self._bound.flatten().topk(min(count, self._bound.numel()), largest=False, sorted=False)
        cells = cells[bounds < torch.inf]
        if not len(cells):
            raise ValueError("logits must be finite: there are no margins to go by")
        return self._taken(cells)

    def below(self, margin: float) -> Tensor:
        """The cells that were not computed and may have a margin under this one."""
        assert self._bound is not None
        return self._taken((self._bound.flatten() < margin).nonzero()[:, 0])

    def _taken(self, cells: Tensor) -> Tensor:
        assert self._bound is not None
        self._bound.view(-1)[cells] = torch.inf
        return cells

    def compute(self, cells: Tensor, found: _Smallest | None) -> None:
        """Labels, and where they are asked for margins and logits, of all places of these cells."""
        grid = self.grid
        for part in cells.split(CHUNK // 4):  # type: ignore[no-untyped-call]
            y, x = part.div(self._mixed.shape[1], rounding_mode="floor"), part.remainder(self._mixed.shape[1])
            # The places of a cell read the same corners, which are looked up once.
            corners = corner_slots(self._before, self._rows, self._columns, y, x)
            places, cell = self._places(y, x)
            logits = interpolated(self._before, self._rows, self._columns, places, corners[cell])
            labels, margins = best_two(logits)
            grid.labels.view(-1)[places] = labels.to(grid.labels.dtype)
            if grid.bound is not None:
                grid.bound.view(-1)[places] = margins
            if isinstance(grid.rows, Rows):
                grid.rows.add(places, logits)
            if found is not None:
                found.add(places, margins)

    def _places(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The places (M,) of cells at row `y` and column `x` (K,), a rectangle each, and which of the cells (M,)."""
        rows, columns = self._rows, self._columns
        wide = columns.count[x]
        count = rows.count[y] * wide
        cell = torch.arange(len(y), device=y.device).repeat_interleave(count)
        number = torch.arange(len(cell), device=y.device) - (count.cumsum(0) - count)[cell]
        first, wide = (rows.first[y] * len(columns.lower) + columns.first[x])[cell], wide[cell]
        return first + number.div(wide, rounding_mode="floor") * len(columns.lower) + number.remainder(wide), cell


class _Smallest:
    """The N smallest margins of what was added, and where they are."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._places: list[Tensor] = []
        self._margins: list[Tensor] = []
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def add(self, places: Tensor, margins: Tensor) -> None:
        self._places.append(places)
        self._margins.append(margins)
        self._total += len(places)
        if self._total > 4 * (self._count + CHUNK):
            self._prune()

    def largest(self) -> float:
        """Of the N smallest."""
        self._prune()
        return float(self._margins[0].amax())

    def places(self) -> Tensor:
        """(N,)."""
        self._prune()
        return self._places[0]

    def _prune(self) -> None:
        if self._total > self._count:
            margins, chosen = torch.cat(self._margins).topk(self._count, largest=False, sorted=False)
            self._places, self._margins = [torch.cat(self._places)[chosen]], [margins]
        else:
            self._places, self._margins = [torch.cat(self._places)], [torch.cat(self._margins)]
        self._total = self._count


def _whole(before: Grid, rows: Axis, columns: Axis) -> Grid:
    """The next grid, computed at every place."""
    size = (len(rows.lower), len(columns.lower))
    data = interpolated(before, rows, columns, torch.arange(size[0] * size[1], device=before.labels.device))
    labels, margins = best_two(data)
    return Grid(size, Dense(data), labels.to(before.labels.dtype).view(size), margins.view(size))
