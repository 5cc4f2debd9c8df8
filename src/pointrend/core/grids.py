"""Grids that are bilinear resizes of each other, and what is known of their logits at few places.

Shapes: C classes, H W a grid, h w the grid it is resized from, M places. Places are row-major indices of a grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pointrend.core.rows import weighted_rows

CACHED = 2**13
"""Places whose classes are compared together: their logits stay in the processor's cache."""


@dataclass(frozen=True)
class Axis:
    """How the places along one axis read those of the grid before: PyTorch's rule, in float32 as there."""

    lower: Tensor
    """(n,) int64, the first of the two that each place reads; the second is the next, at the end the same."""
    weight: Tensor
    """(n,) float32, of the second."""
    first: Tensor
    """(m,) int64: of each place before, the first one here that has it as `lower`."""
    count: Tensor
    """(m,) int64: how many have."""


def bilinear_axis(before: int, now: int, device: torch.device, *, doubled: bool = False) -> Axis:
    """The axis of `now` places over `before`; `doubled` where the resize is called with a factor and not a size."""
    sizes = torch.tensor((before, now), dtype=torch.float32, device=device)
    scale = sizes.new_tensor(0.5) if doubled else sizes[0] / sizes[1]
    at = (scale * (torch.arange(now, dtype=torch.float32, device=device) + 0.5) - 0.5).clamp(min=0)
    lower = at.long().clamp(max=before - 1)
    weight = (at - lower).clamp(0, 1)
    count = torch.bincount(lower, minlength=before)
    return Axis(lower, weight, count.cumsum(0) - count, count)


class Rows:
    """Logits of some places of a grid, one row each; the others are computed when they are asked for.

    Args:
        places: H * W.
        compute: writes logits of places (M,) into (M, C).
        limit: rows above this number are forgotten when the next ones are asked for.
    """

    def __init__(
        self, places: int, compute: Callable[[Tensor, Tensor], object], *, classes: int, like: Tensor, limit: int
    ):
        self._compute = compute
        self._limit = limit
        self._data = like.new_empty((0, classes))
        self._count = 0
        self._kept = 0
        self._slot = torch.full((places,), -1, dtype=torch.int32, device=like.device)

    def keep(self, places: Tensor, rows: Tensor) -> None:
        """Rows that are never forgotten, in place of what was known."""
        assert self._kept == 0
        self._forget()
        self._append(places).copy_(rows)
        self._kept = self._count

    def add(self, places: Tensor, rows: Tensor) -> None:
        """Rows of places that are not known, as `compute` gives them."""
        if self._count + len(rows) <= self._limit:
            self._append(places).copy_(rows)

    def slots(self, places: Tensor) -> Tensor:
        """Where in `data` the rows of places (M,) are, which may repeat; they stay there until the next call."""
        found = self._slot[places]
        missing = found < 0
        if bool(missing.any()):
            if self._count > self._limit:
                self._forget()
                found = self._slot[places]
                missing = found < 0
            new = self._distinct(places[missing])
            self._compute(new, self._append(new))
            found = self._slot[places]
        return found

    @property
    def data(self) -> Tensor:
        """(rows, C)."""
        return self._data

    def _distinct(self, places: Tensor) -> Tensor:
        """Each of these places, none of which is known, once: without sorting, by who wrote last."""
        number = torch.arange(len(places), dtype=torch.int32, device=places.device)
        self._slot[places] = number
        return places[self._slot[places] == number]

    def _append(self, places: Tensor) -> Tensor:
        """Make room: the rows (M, C) of places (M,), to be written."""
        end = self._count + len(places)
        if end > len(self._data):
            # Room for what the next step adds: it asks for few new ones.
            grown = self._data.new_empty((max(end + end // 4, 2 * len(self._data)), self._data.shape[1]))
            grown[: self._count] = self._data[: self._count]
            self._data = grown
        self._slot[places] = torch.arange(self._count, end, dtype=torch.int32, device=places.device)
        self._count = end
        return self._data[end - len(places) : end]

    def _forget(self) -> None:
        self._slot.masked_fill_(self._slot >= self._kept, -1)
        self._data = self._data[: self._kept].clone()
        self._count = self._kept


class Dense:
    """Logits of all places of a grid: (H * W, C). Has what `Rows` has."""

    def __init__(self, data: Tensor) -> None:
        self.data = data

    def keep(self, places: Tensor, rows: Tensor) -> None:
        """Rows in place of what was there."""
        self.data[places] = rows

    def slots(self, places: Tensor) -> Tensor:
        """The places themselves."""
        return places


@dataclass(eq=False)
class Grid:
    """One grid of the chain: how it reads the one before, and what is known of it."""

    size: tuple[int, int]
    """(H, W)."""
    rows: Rows | Dense | None
    """None where nobody will ask."""
    labels: Tensor
    """(H, W), a small integer type."""
    bound: Tensor | None
    """(H, W) float32: no margin is smaller, and those of computed places are this. None where nobody will ask."""


def interpolated(before: Grid, rows: Axis, columns: Axis, places: Tensor, cells: Tensor | None = None) -> Tensor:
    """Logits (M, C) of places (M,) of the grid that reads `before` along these axes.

    Args:
        cells: (M,) rows of `corner_slots` of the cells the places lie in, where they were looked up before.
    """
    width = len(columns.lower)
    y, x = places.div(width, rounding_mode="floor"), places.remainder(width)
    if cells is None:
        cells = corner_slots(before, rows, columns, rows.lower[y], columns.lower[x])
    down, across = rows.weight[y], columns.weight[x]
    up, back = 1 - down, 1 - across
    weights = torch.stack((up * back, up * across, down * back, down * across), dim=1)
    assert before.rows is not None
    return weighted_rows(before.rows.data, cells, weights)


def corner_slots(before: Grid, rows: Axis, columns: Axis, top: Tensor, left: Tensor) -> Tensor:
    """Where the logits of the four corners (K, 4) of cells are, whose upper left corners are at `top`, `left` (K,)."""
    bottom, right = ((side + 1).clamp(max=len(axis.count) - 1) for side, axis in ((top, rows), (left, columns)))
    width = before.size[1]
    corners = torch.stack((top * width + left, top * width + right, bottom * width + left, bottom * width + right), 1)
    assert before.rows is not None
    return before.rows.slots(corners.flatten()).view_as(corners)


def best_two(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (M,) int64, the first of the best classes, and margins (M,), best minus second, of logits (M, C)."""
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long(), logits[:, 0].abs()
    if logits.shape[1] <= 32:  # a plane a class: comparing planes is fast, transposing many is not
        parts = [_best_two_of_planes(part.t().contiguous()) for part in torch.split(logits, CACHED)]
        labels, margins = zip(*parts, strict=True)
        return torch.cat(labels), torch.cat(margins)
    values, indices = logits.topk(2, dim=1)
    best, margin = indices[:, 0], values[:, 0] - values[:, 1]
    tied = torch.nonzero(margin == 0)[:, 0]
    if len(tied):  # topk gives any of them
        best = best.index_copy(0, tied, logits[tied].argmax(dim=1))
    return best, margin


def _best_two_of_planes(planes: Tensor) -> tuple[Tensor, Tensor]:
    """As `best_two`, of logits (C, M). Reductions without indices are many times as fast as `max` with them."""
    best = planes.amax(dim=0)
    order = torch.arange(len(planes), 0, -1, dtype=torch.uint8, device=planes.device)
    first = (planes == best).to(torch.uint8).mul_(order.unsqueeze(1)).amax(dim=0)
    labels = (len(planes) - first.long()).clamp_(max=len(planes) - 1)  # of what is not a number, any
    return labels, best - planes.scatter(0, labels.unsqueeze(0), -torch.inf).amax(dim=0)
