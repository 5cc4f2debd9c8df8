"""Cells of a grid, which are what lies between four places: passes over all of them, a block of rows at a time.

Shapes: H W the grid. The cell of a place is the one whose upper left corner it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pointrend.core.grids import Axis

BLOCK = 2**16
"""Places that are gone over together."""


def mixed_cells(labels: Tensor) -> Tensor:
    """(H, W) bool: of the cell whose upper left corner each place is, whether the corners differ."""
    mixed = torch.empty_like(labels, dtype=torch.bool)
    for own, last in _blocks(labels):
        rows = labels[own.start : last]
        found = torch.zeros_like(rows, dtype=torch.bool)
        across, down = rows[:, 1:] != rows[:, :-1], rows[1:] != rows[:-1]
        found[:, :-1] = across
        found[:-1, :-1] |= across[1:]
        found[:-1] |= down
        found[:-1, :-1] |= down[:, 1:]
        mixed[own] = found[: own.stop - own.start]
    return mixed


def smallest_in_cells(bound: Tensor) -> Tensor:
    """(H, W): the smallest of the four corners of each cell, in place."""
    for own, last in _blocks(bound):
        rows = bound[own.start : last]
        across = rows.clone()
        torch.minimum(rows[:, :-1], rows[:, 1:], out=across[:, :-1])
        # A row is read by its own cells and by those above, which are done.
        torch.minimum(across[:-1], across[1:], out=rows[: len(rows) - 1])
        if own.stop == last:
            rows[-1] = across[-1]
    return bound


def _blocks(grid: Tensor) -> Iterator[tuple[slice, int]]:
    """Rows of a grid (H, W) by the block, and the end of the row after: what is made of a block stays in the cache."""
    height, width = grid.shape
    count = max(1, BLOCK // width)
    for top in range(0, height, count):
        own = slice(top, min(top + count, height))
        yield own, min(own.stop + 1, height)


def spread(cells: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """A value of each cell, or of its upper left corner, at all of its places."""
    made = cells.new_empty((len(rows.lower), len(columns.lower)))
    for own, _ in _blocks(made):
        made[own] = cells.index_select(0, rows.lower[own]).index_select(1, columns.lower)
    return made


def repeated(labels: Tensor) -> Tensor:
    """Each label (H, W) at 2 x 2 places: where a cell is not mixed, any of its corners will do."""
    height, width = labels.shape
    made = labels.new_empty((height, 2, 2 * width))
    if labels.dtype == torch.uint8:  # a byte twice is a number of 16 bits
        pairs = made.view(torch.int16)
        for own, _ in _blocks(labels):
            pairs[own] = labels[own].to(torch.int16).mul_(257).unsqueeze(1)
    else:
        made.view(height, 2, width, 2).copy_(labels[:, None, :, None])
    return made.view(2 * height, 2 * width)
