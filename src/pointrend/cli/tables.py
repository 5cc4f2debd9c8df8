"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from pointrend.data import Census

ROWS = 30
"""The number of classes that a table of contents lists; of more, the most and the least frequent."""


def table(first: str, columns: Sequence[str], *, title: str | None = None, justify: str = "right") -> Table:
    """Return a table whose first column does not wrap and whose other columns are right-aligned by default."""
    result = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    result.add_column(first, no_wrap=True)
    for column in columns:
        result.add_column(column, justify="left" if justify == "left" else "right")
    return result


def number(value: float) -> str:
    """Format a score with two digits, or NaN as a dash."""
    return "-" if value != value else f"{value:.2f}"


def contents_table(contents: Mapping[str, Census]) -> Table:
    """Return a table of the pixels, or the objects, of each class in splits of the same classes, given by name."""
    first = next(iter(contents.values()))
    result = table(f"{first.unit} of", list(contents))
    names = first.samples.class_names
    order = np.argsort(-first.counts, kind="stable").tolist()
    middle = order[ROWS // 2 : -ROWS // 2] if len(names) > ROWS else []
    for index in order:
        if middle and index == middle[0]:
            result.add_row(f"({len(middle)} more classes)", *("" for _ in contents))
        if index not in middle:
            result.add_row(names[index], *(_amount(census, int(census.counts[index])) for census in contents.values()))
    if first.unit == "pixels":
        result.add_row("(ignored)", *(_amount(census, census.ignored) for census in contents.values()))
    result.add_row("(images)", *(f"{census.images:,}" for census in contents.values()))
    return result


def _amount(census: Census, count: int) -> str:
    if census.unit == "pixels":
        return f"{count:,} ({100 * count / max(1, int(census.counts.sum()) + census.ignored):.1f} %)"
    return f"{count:,}" if census.complete else f"{count:,} in {census.read:,} images"
