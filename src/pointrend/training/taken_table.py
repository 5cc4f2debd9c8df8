"""The table of what a network starts from."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from pointrend.training.taking import TakenPart


def taken_table(parts: Sequence[TakenPart], name: str) -> None:
    """Print what each part of a network takes of the weights of a model, on stderr."""
    table = Table(
        "part", "tensors taken", "by class", "new", "why new", title=f"weights of {name}", title_justify="left"
    )
    for part in parts:
        table.add_row(part.part, str(part.taken), str(part.by_class), str(part.new), part.why)
    Console(stderr=True).print(table)
