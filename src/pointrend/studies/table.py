"""The result of a study: a table of numbers, each a mean with its spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Several measurements of one number."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Return the mean; nan without measurements."""
        return sum(self.values) / len(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Return the standard deviation of a sample; nan for fewer than two measurements."""
        if len(self.values) < 2:
            return math.nan
        return math.sqrt(sum((value - self.mean) ** 2 for value in self.values) / (len(self.values) - 1))

    def __str__(self) -> str:
        """Return "61.97 ± 0.21", "61.97" for one measurement, or "-"."""
        if math.isnan(self.mean):
            return "-"
        return f"{self.mean:.2f}" if math.isnan(self.deviation) else f"{self.mean:.2f} ± {self.deviation:.2f}"


@dataclass(frozen=True)
class StudyTable:
    """A table: a title, the names of columns, the first of which is that of the rows, and rows of cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | Spread, ...], ...]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [_line(self.columns), "|" + "---|" * len(self.columns)]
        return "\n".join([*lines, *(_line([str(cell) for cell in row]) for row in self.rows)])

    def to_dict(self) -> dict[str, object]:
        """Return the table for JSON, with the single measurements."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [[list(cell.values) if isinstance(cell, Spread) else cell for cell in row] for row in self.rows],
        }


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
