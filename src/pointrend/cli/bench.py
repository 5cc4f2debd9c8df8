"""`pointrend bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointrend.cli.errors import WRONG_USAGE, one_line_errors

if TYPE_CHECKING:
    from rich.table import Table

    from pointrend.bench.measure import Spread
    from pointrend.bench.rows import Row

GROUPS = ("render", "growth", "masks", "whole", "many", "start")


def bench(
    only: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Some of the groups, with commas: {','.join(GROUPS)}.")
    ] = ",".join(GROUPS),
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each part, in turn.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of PyTorch.  [default: PyTorch's own]")] = None,
    steps: Annotated[int, typer.Option(min=1, max=6, help="The most steps of the group growth; 6 is 16k x 32k.")] = 5,
    photos: Annotated[int, typer.Option(min=2, help="Photographs of the group many.")] = 100,
    logits: Annotated[
        Path | None,
        typer.Option(help="A Python file with realistic_logits(C, h, w), in place of our piecewise smooth ones."),
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="A COCO annotation file: the boxes of the adaptive row have its objects' sizes.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for bench.json and growth.png.")] = Path("bench-out"),
) -> None:
    """Measure what rendering costs, beside the dense way of other implementations, and print ratios.

    Everything is measured in turn in each repeat, so that a slow moment of the machine falls on all; ratios are
    within a repeat. Numbers are medians with quartiles. All groups take about ten minutes on 2 cores.
    """
    import torch
    from rich.console import Console

    from pointrend.bench.inputs import logits_from, piecewise_smooth_logits
    from pointrend.bench.measure import environment
    from pointrend.bench.report import draw_growth, write_json
    from pointrend.bench.suite import measure
    from pointrend.cli.progress import counting

    with one_line_errors(code=WRONG_USAGE):
        groups = [name.strip() for name in only.split(",")]
        if unknown := [name for name in groups if name not in GROUPS]:
            raise ValueError(f"--only must name some of {', '.join(GROUPS)}, got {unknown[0]!r}")
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out must be a folder, {out} is a file")
        make_logits = logits_from(logits) if logits else piecewise_smooth_logits
        if boxes is not None and not boxes.is_file():
            raise ValueError(f"--boxes must be a COCO annotation file, there is no {boxes}")
    if threads is not None:
        torch.set_num_threads(threads)
    with counting("{}", console=Console(stderr=True)) as progress:
        rows = measure(
            groups,
            make_logits,
            boxes=boxes,
            repeats=repeats,
            most_steps=steps,
            photos=photos,
            progress=lambda name, done, total: progress(name, done, total),
        )
    where = environment()
    console = Console()
    console.print(_table(rows, f"{where['machine']}, {where['threads']} threads; median of {repeats} (quartiles)"))
    out.mkdir(parents=True, exist_ok=True)
    inputs = {"logits": str(logits) if logits else "piecewise smooth", "boxes": str(boxes) if boxes else "drawn"}
    write_json(out / "bench.json", rows, {**where, "repeats": repeats, **inputs})
    written = [out / "bench.json"]
    if "growth" in groups:
        draw_growth(rows, out / "growth.png")
        written.append(out / "growth.png")
    console.print(f"wrote {' and '.join(map(str, written))}", highlight=False, soft_wrap=True)


def _table(rows: list[Row], title: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("row")
    for column in ("seconds", "ratio", "target"):
        table.add_column(column)
    for row in rows:
        seconds = "\n".join(f"{name} {_spread(value, 3)}" for name, value in row.seconds.items())
        notes = "\n".join(f"{name}: {value}" for name, value in row.notes.items() if value is not None)
        ratio = "" if row.ratio is None else _spread(row.ratio, 1) + "x"
        table.add_row(f"{row.name}\n{notes}" if notes else row.name, seconds, ratio, row.target)
        table.add_section()
    return table


def _spread(value: Spread, digits: int) -> str:
    return f"{value.median:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"
