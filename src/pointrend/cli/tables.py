"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table


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
