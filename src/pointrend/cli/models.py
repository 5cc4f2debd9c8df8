"""`pointrend models`: the values of --model."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def models(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list for programs.")] = False) -> None:
    """List the models that can be used by name."""
    from dataclasses import asdict

    from pointrend.zoo import list_models
    from pointrend.zoo.cache import cache_folder

    entries = list_models()
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries], indent=2))
        return

    from rich.console import Console
    from rich.table import Column, Table

    name, source = Column("name", no_wrap=True), Column("source", no_wrap=True)
    megabytes, score = (Column(title, justify="right", no_wrap=True) for title in ("MB", "mIoU"))
    table = Table(name, "data", "licence", megabytes, score, source, box=None, pad_edge=False)
    for entry in entries:
        miou = f"{entry.scores['miou']:.1f}" if "miou" in entry.scores else "-"
        table.add_row(entry.name, entry.data, entry.licence, f"{entry.size_bytes / 1e6:.0f}", miou, entry.source)
    console = Console()
    console.print(table)
    console.print(f"\nDownloads are kept in {cache_folder()}.", highlight=False, soft_wrap=True)
