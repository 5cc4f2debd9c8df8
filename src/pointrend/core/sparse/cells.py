"""Passes over the 2x2 cells of a grid, in blocks of rows that fit in cache.

Shapes: H W the grid. A cell is named by the pixel at its upper left corner.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pointrend.core.sparse.grids import Axis

BLOCK = 2**16
"""Pixels of a block of rows."""


def mixed_cells(labels: Tensor) -> Tensor:
    """Return (H, W) bool: whether the four corners of each cell have different labels."""
    mixed = torch.empty_like(labels, dtype=torch.bool)
    for block, last in _blocks(labels):
        rows = labels[block.start : last]
        found = torch.zeros_like(rows, dtype=torch.bool)
        across, down = rows[:, 1:] != rows[:, :-1], rows[1:] != rows[:-1]
        found[:, :-1] = across
        found[:-1, :-1] |= across[1:]
        found[:-1] |= down
        found[:-1, :-1] |= down[:, 1:]
        mixed[block] = found[: block.stop - block.start]
    return mixed


def smallest_in_cells(bound: Tensor) -> Tensor:
    """Replace each value (H, W) by the smallest of its cell's four corners, in place."""
    for block, last in _blocks(bound):
        rows = bound[block.start : last]
        across = rows.clone()
        torch.minimum(rows[:, :-1], rows[:, 1:], out=across[:, :-1])
        # A row is read by its own cells and by those above, which are done.
        torch.minimum(across[:-1], across[1:], out=rows[: len(rows) - 1])
        if block.stop == last:
            rows[-1] = across[-1]
    return bound


def _blocks(grid: Tensor) -> Iterator[tuple[slice, int]]:
    """Yield blocks of rows of a grid (H, W), each with the end of the row below it, which its cells also read."""
    height, width = grid.shape
    count = max(1, BLOCK // width)
    for top in range(0, height, count):
        block = slice(top, min(top + count, height))
        yield block, min(block.stop + 1, height)


def spread(cells: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """Copy each cell's value to all pixels of the next grid that lie in the cell."""
    values = cells.new_empty((len(rows.lower), len(columns.lower)))
    for block, _ in _blocks(values):
        values[block] = cells.index_select(0, rows.lower[block]).index_select(1, columns.lower)
    return values


def repeated(labels: Tensor) -> Tensor:
    """Copy each label (H, W) to 2 x 2 pixels; where a cell is not mixed, all of its corners have that label."""
    height, width = labels.shape
    doubled = labels.new_empty((height, 2, 2 * width))
    if labels.dtype == torch.uint8:  # a byte twice is a number of 16 bits
        pairs = doubled.view(torch.int16)
        for block, _ in _blocks(labels):
            pairs[block] = labels[block].to(torch.int16).mul_(257).unsqueeze(1)
    else:
        doubled.view(height, 2, width, 2).copy_(labels[:, None, :, None])
    return doubled.view(2 * height, 2 * width)
