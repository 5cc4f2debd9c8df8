"""Grids that are bilinear resizes of each other, with logits at some of their pixels.

Shapes: C classes, H W a grid, h w the grid it is resized from, M pixels. Pixels are named by their row-major indices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pointrend.core.labels import labels_of
from pointrend.core.sparse.rows import weighted_rows
from pointrend.core.uncertainty import independent_uncertainty

CHUNK = 2**16
"""Pixels whose logits are computed together."""
CACHE_BYTES = 2**27
"""Memory budget, in bytes, of a grid's logit cache."""
COMPARED = 2**13
"""Rows compared per chunk; chosen so that their logits fit in L2 cache."""


@dataclass(frozen=True)
class Axis:
    """How the pixels along one axis read those of the grid before, by PyTorch's rule and in float32 as there."""

    lower: Tensor
    """(n,) int64, the first of the two pixels that each output reads; the second is the next one, if there is any."""
    weight: Tensor
    """(n,) float32, the weight of the second pixel."""
    first: Tensor
    """(m,) int64: first[j] is the first output whose lower source index is j."""
    count: Tensor
    """(m,) int64: count[j] is the number of such outputs."""


def bilinear_axis(before: int, now: int, device: torch.device, *, doubled: bool = False) -> Axis:
    """Return the axis of `now` pixels over `before`; `doubled` where the resize is called with a factor, not a size."""
    sizes = torch.tensor((before, now), dtype=torch.float32, device=device)
    scale = sizes.new_tensor(0.5) if doubled else sizes[0] / sizes[1]
    at = (scale * (torch.arange(now, dtype=torch.float32, device=device) + 0.5) - 0.5).clamp(min=0)
    lower = at.long().clamp(max=before - 1)
    weight = (at - lower).clamp(0, 1)
    count = torch.bincount(lower, minlength=before)
    return Axis(lower, weight, count.cumsum(0) - count, count)


class Rows:
    """Logits of some pixels of a grid, one row each; those of other pixels are computed when they are asked for.

    Args:
        pixels: H * W.
        compute: writes logits of pixels (M,) into (M, C).
        limit: with more rows than this, cached ones are dropped when the next are asked for.
    """

    def __init__(
        self, pixels: int, compute: Callable[[Tensor, Tensor], object], *, classes: int, like: Tensor, limit: int
    ):
        self._compute = compute
        self._limit = limit
        self._data = like.new_empty((0, classes))
        self._count = 0
        self._kept = torch.empty(0, dtype=torch.int64, device=like.device)
        self._pixels = pixels
        self._slots: Tensor | None = None

    def keep(self, pixels: Tensor, rows: Tensor) -> None:
        """Store rows that are never dropped, in place of all cached ones."""
        assert len(self._kept) == 0
        self._forget()
        self._append(pixels).copy_(rows)
        self._kept = pixels

    def add(self, pixels: Tensor, rows: Tensor) -> None:
        """Cache rows of pixels that have none yet, as `compute` would give them."""
        if self._count + len(rows) <= self._limit:
            self._append(pixels).copy_(rows)

    def slots(self, pixels: Tensor) -> Tensor:
        """Return where in `data` the rows of pixels (M,) are, until the next call; pixels may repeat."""
        found = self._slot[pixels]
        missing = found < 0
        if bool(missing.any()):
            if self._count > self._limit:
                self._forget()
                found = self._slot[pixels]
                missing = found < 0
            new = self._distinct(pixels[missing])
            self._compute(new, self._append(new))
            found = self._slot[pixels]
        return found

    @property
    def data(self) -> Tensor:
        """(rows, C)."""
        return self._data

    def trim(self) -> None:
        """Drop all cached rows, and all memory but that of the rows stored by `keep`."""
        self._forget()
        self._slots = None

    @property
    def _slot(self) -> Tensor:
        """(pixels,) int32: where each pixel's row is, -1 without one."""
        if self._slots is None:
            device = self._data.device
            self._slots = torch.full((self._pixels,), -1, dtype=torch.int32, device=device)
            self._slots[self._kept] = torch.arange(len(self._kept), dtype=torch.int32, device=device)
        return self._slots

    def _distinct(self, pixels: Tensor) -> Tensor:
        """Return each of some pixels without a row once; not by sorting, but by which of the equal ones wrote last."""
        number = torch.arange(len(pixels), dtype=torch.int32, device=pixels.device)
        self._slot[pixels] = number
        return pixels[self._slot[pixels] == number]

    def _append(self, pixels: Tensor) -> Tensor:
        """Return new rows (M, C) of pixels (M,), to be written."""
        end = self._count + len(pixels)
        if end > len(self._data):
            # Also room for the few rows that the next step adds.
            grown = self._data.new_empty((max(end + end // 4, 2 * len(self._data)), self._data.shape[1]))
            grown[: self._count] = self._data[: self._count]
            self._data = grown
        self._slot[pixels] = torch.arange(self._count, end, dtype=torch.int32, device=pixels.device)
        self._count = end
        return self._data[end - len(pixels) : end]

    def _forget(self) -> None:
        kept = len(self._kept)
        if self._slots is not None:
            self._slots.masked_fill_(self._slots >= kept, -1)
        self._data = self._data[:kept].clone()
        self._count = kept


class AllRows:
    """All logits of a grid, (H * W, C), behind the same interface as `Rows`."""

    def __init__(self, data: Tensor) -> None:
        self.data = data

    def keep(self, pixels: Tensor, rows: Tensor) -> None:
        """Write rows of some pixels."""
        self.data[pixels] = rows

    def slots(self, pixels: Tensor) -> Tensor:
        """Return the pixels themselves: row i is pixel i."""
        return pixels


@dataclass(eq=False)
class Grid:
    """One grid of the chain: its labels, and what is kept of its logits and margins."""

    size: tuple[int, int]
    """(H, W)."""
    rows: Rows | AllRows | None
    """None if no logits will be asked for."""
    labels: Tensor
    """(H, W), a small integer type."""
    bound: Tensor | None
    """(H, W) float32, a lower bound of every margin; exact where logits were computed. None if it will not be used."""
    sources: tuple[Grid, ...] = ()
    """The grids that `rows` are computed from."""
    independent: bool = False
    """Whether a pixel may be of several classes or none; its label has a bit for each."""

    def best_two(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels (M,) and margins (M,) of logits (M, C) of this grid."""
        return bits_and_margins(logits) if self.independent else best_two(logits)

    def trim(self) -> None:
        """Drop what is cached here and in all sources."""
        if isinstance(self.rows, Rows):
            self.rows.trim()
        self.bound = None
        for source in self.sources:
            source.trim()


def interpolated(before: Grid, rows: Axis, columns: Axis, pixels: Tensor, cells: Tensor | None = None) -> Tensor:
    """Return logits (M, C) of pixels (M,) of the grid that reads `before` along these axes.

    Args:
        cells: (M, 4), the `corner_slots` of the cells that the pixels lie in, if they were looked up before.
    """
    width = len(columns.lower)
    y, x = pixels.div(width, rounding_mode="floor"), pixels.remainder(width)
    if cells is None:
        cells = corner_slots(before, rows, columns, rows.lower[y], columns.lower[x])
    down, across = rows.weight[y], columns.weight[x]
    up, back = 1 - down, 1 - across
    weights = torch.stack((up * back, up * across, down * back, down * across), dim=1)
    assert before.rows is not None
    return weighted_rows(before.rows.data, cells, weights)


def corner_slots(before: Grid, rows: Axis, columns: Axis, top: Tensor, left: Tensor) -> Tensor:
    """Return where the logits of the corners (K, 4) of cells are; `top`, `left` (K,) are the upper left corners."""
    bottom, right = ((side + 1).clamp(max=len(axis.count) - 1) for side, axis in ((top, rows), (left, columns)))
    width = before.size[1]
    corners = torch.stack((top * width + left, top * width + right, bottom * width + left, bottom * width + right), 1)
    assert before.rows is not None
    return before.rows.slots(corners.flatten()).view_as(corners)


def label_type(classes: int, *, independent: bool) -> torch.dtype:
    """Return the smallest type that holds all labels."""
    return torch.uint8 if (2**classes if independent else classes) <= 256 else torch.int32


def bits_and_margins(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels of independent classes (M,) int64, and margins (M,), the smallest |logit|, of logits (M, C)."""
    return labels_of(logits, dim=1, independent=True), -independent_uncertainty(logits, dim=1)


def best_two(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels (M,) int64, the first best class each, and margins (M,), best minus second, of logits (M, C)."""
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).long(), logits[:, 0].abs()
    if logits.shape[1] <= 32:  # a plane a class: comparing planes is fast, transposing many is not
        parts = [_best_two_of_planes(part.t().contiguous()) for part in torch.split(logits, COMPARED)]
        labels, margins = zip(*parts, strict=True)
        return torch.cat(labels), torch.cat(margins)
    values, indices = logits.topk(2, dim=1)
    best, margin = indices[:, 0], values[:, 0] - values[:, 1]
    tied = torch.nonzero(margin == 0)[:, 0]
    if len(tied):  # topk gives any of the best
        best = best.index_copy(0, tied, logits[tied].argmax(dim=1))
    return best, margin


def _best_two_of_planes(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Do what `best_two` does with logits (C, M). Reductions without indices are many times as fast as `max`."""
    best = planes.amax(dim=0)
    order = torch.arange(len(planes), 0, -1, dtype=torch.uint8, device=planes.device)
    first = (planes == best).to(torch.uint8).mul_(order.unsqueeze(1)).amax(dim=0)
    labels = (len(planes) - first.long()).clamp_(max=len(planes) - 1)  # any label where logits are NaN
    return labels, best - planes.scatter(0, labels.unsqueeze(0), -torch.inf).amax(dim=0)
