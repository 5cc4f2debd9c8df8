"""The command `python -m benchmarks`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.inputs import logits_from, piecewise_smooth_logits
from benchmarks.measure import environment
from benchmarks.report import draw_growth, write_json
from benchmarks.rows import Row
from benchmarks.suite import GROUPS, measure
from pointrend.progress import counting
from pointrend.timing import Spread

app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def bench(
    only: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Some of the groups, with commas: {','.join(GROUPS)}.")
    ] = ",".join(GROUPS),
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each part, interleaved.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of PyTorch.  [default: PyTorch's own]")] = None,
    steps: Annotated[
        int, typer.Option(min=1, max=6, help="The largest number of steps of the group growth; 6 is 16k x 32k.")
    ] = 5,
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

    In each repeat all parts run one after another, so that a slow moment of the machine falls on all of them; ratios
    are within a repeat. Numbers are medians with quartiles. All groups take about ten minutes on 2 cores.
    """
    groups = [name.strip() for name in only.split(",")]
    if unknown := [name for name in groups if name not in GROUPS]:
        raise typer.BadParameter(f"--only must name some of {', '.join(GROUPS)}, got {unknown[0]!r}")
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"--out must be a folder, {out} is a file")
    if boxes is not None and not boxes.is_file():
        raise typer.BadParameter(f"--boxes must be a COCO annotation file, there is no {boxes}")
    try:
        make_logits = logits_from(logits) if logits else piecewise_smooth_logits
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
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
            progress=progress,
        )
    where = environment()
    console = Console()
    console.print(table(rows, f"{where['machine']}, {where['threads']} threads; median of {repeats} (quartiles)"))
    out.mkdir(parents=True, exist_ok=True)
    inputs = {"logits": str(logits) if logits else "piecewise smooth", "boxes": str(boxes) if boxes else "drawn"}
    write_json(out / "bench.json", rows, {**where, "repeats": repeats, **inputs})
    written = [out / "bench.json"]
    if "growth" in groups:
        draw_growth(rows, out / "growth.png")
        written.append(out / "growth.png")
    console.print(f"wrote {' and '.join(map(str, written))}", highlight=False, soft_wrap=True)


def table(rows: list[Row], title: str) -> Table:
    """Return the rows as a table for the terminal."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for column in ("row", "seconds", "ratio", "target"):
        made.add_column(column)
    for row in rows:
        seconds = "\n".join(f"{name} {_spread(value, 3)}" for name, value in row.seconds.items())
        notes = "\n".join(f"{name}: {value}" for name, value in row.notes.items() if value is not None)
        ratio = "" if row.ratio is None else _spread(row.ratio, 1) + "x"
        made.add_row(f"{row.name}\n{notes}" if notes else row.name, seconds, ratio, row.target)
        made.add_section()
    return made


def _spread(value: Spread, digits: int) -> str:
    return f"{value.median:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
