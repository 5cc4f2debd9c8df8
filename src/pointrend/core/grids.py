"""Grids that are bilinear resizes of each other, and what is known of their logits at few places.

Shapes: C classes, H W a grid, h w the grid it is resized from, M places. Places are row-major indices of a grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pointrend.core.rows import weighted_rows


@dataclass(frozen=True)
class Axis:
    """How the places along one axis read those of the grid before: PyTorch's rule, in float32 as there."""

    lower: Tensor
    """(n,) int64, the first of the two that each place reads."""
    upper: Tensor
    """(n,) int64, the second; at the end the same as the first."""
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
    return Axis(lower, (lower + 1).clamp(max=before - 1), weight, count.cumsum(0) - count, count)


class Rows:
    """Logits of some places of a grid, one row each; the others are computed when they are asked for.

    Args:
        places: H * W.
        compute: logits (M, C) of places (M,).
        limit: rows above this number are forgotten when the next ones are asked for.
    """

    def __init__(self, places: int, compute: Callable[[Tensor], Tensor], *, classes: int, like: Tensor, limit: int):
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
        self._append(places, rows)
        self._kept = self._count

    def add(self, places: Tensor, rows: Tensor) -> None:
        """Rows of places that are not known, as `compute` gives them."""
        if self._count + len(rows) <= self._limit:
            self._append(places, rows)

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
            self._append(new, self._compute(new))
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

    def _append(self, places: Tensor, rows: Tensor) -> None:
        end = self._count + len(rows)
        if end > len(self._data):
            grown = self._data.new_empty((max(end, 2 * len(self._data)), self._data.shape[1]))
            grown[: self._count] = self._data[: self._count]
            self._data = grown
        self._data[self._count : end] = rows
        self._slot[places] = torch.arange(self._count, end, dtype=torch.int32, device=places.device)
        self._count = end

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


def interpolated(before: Grid, rows: Axis, columns: Axis, places: Tensor) -> Tensor:
    """Logits (M, C) of places (M,) of the grid that reads `before` along these axes."""
    width = len(columns.lower)
    y, x = places.div(width, rounding_mode="floor"), places.remainder(width)
    top, bottom = (side[y] * before.size[1] for side in (rows.lower, rows.upper))
    left, right = columns.lower[x], columns.upper[x]
    down, across = rows.weight[y], columns.weight[x]
    corners = torch.stack((top + left, top + right, bottom + left, bottom + right), dim=1)
    weights = torch.stack(((1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across), dim=1)
    assert before.rows is not None
    slots = before.rows.slots(corners.flatten()).view_as(corners)
    return weighted_rows(before.rows.data, slots, weights)


def best_two(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (M,) int64, the first of the best classes, and margins (M,), best minus second, of logits (M, C)."""
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long(), logits[:, 0].abs()
    if logits.shape[1] <= 32:  # a plane a class: comparing planes is fast, transposing many is not
        planes = logits.t().contiguous()
        best, labels = planes.max(dim=0)
        return labels, best - planes.scatter(0, labels.unsqueeze(0), -torch.inf).amax(dim=0)
    values, indices = logits.topk(2, dim=1)
    labels, margins = indices[:, 0], values[:, 0] - values[:, 1]
    tied = torch.nonzero(margins == 0)[:, 0]
    if len(tied):  # topk gives any of them
        labels = labels.index_copy(0, tied, logits[tied].argmax(dim=1))
    return labels, margins
