"""`pointrend data`: what a folder has, and data sets from what annotation tools export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointrend.cli import options
from pointrend.cli.errors import FAILED, WRONG_USAGE, one_line_errors, report

if TYPE_CHECKING:
    from pointrend.data.overview import Overview, SplitOverview

app = typer.Typer(
    help="Look at data sets before a training, and make them from what annotation tools export.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SHEET = "data-check.png"
LISTED = 5
"""The number of files that are listed for each kind of problem."""
NAMED = 10
"""The number of classes that are named."""


@app.command("check")
def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The data set's folder, or that of one split.")],
    layout: Annotated[
        str | None, typer.Option(metavar="NAME", help="How FOLDER is laid out.  [default: detected]")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="semantic|instance", help="What it is for.  [default: what fits, or semantic]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help=f"The picture of twelve samples.  [default: {SHEET}]")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Say what a data set has: its layout, splits, sizes, pixels or objects of each class, and problems.

    Also writes one picture of twelve samples with their labels drawn on them, spread over the classes. Ends with 1 if
    there is something that would stop a training.
    """
    from rich.console import Console

    from pointrend.data.overview import overview
    from pointrend.progress import counting

    picture = out or Path(SHEET)
    with one_line_errors(code=WRONG_USAGE):
        check_task(task, optional=True)
        if picture.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            raise ValueError(f"--out must end in .png, .jpg or .webp, got {picture}")
    with counting("{}", console=Console(stderr=True)) as progress:
        found = overview(folder, task=task, layout=layout, progress=lambda name, *at: progress(f"checking {name}", *at))
        drawn = _draw(found, picture, lambda *at: progress("drawing", *at))
    if as_json:
        print(json.dumps(_summary(found, picture if drawn else None), indent=1, ensure_ascii=False))
    else:
        _show(found)
        print(f"{picture}: {drawn} samples" if drawn else "no sample to draw")
    raise typer.Exit(0 if found.sound else FAILED)


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A folder, or the file of an export.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that is new or empty.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="cvat, label-studio, labelme, yolo, or a layout such as coco or labelmap; auto detects it.",
        ),
    ] = "auto",
    task: Annotated[
        str,
        typer.Option(
            metavar="semantic|instance",
            help="semantic writes images/, labels/ and classes.json; instance writes COCO's JSON.",
        ),
    ] = "semantic",
    val: Annotated[
        float | None,
        typer.Option(
            metavar="RATIO", help="Images drawn for val, if SOURCE has no splits; 0 for none.  [default: 0.2]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out images and objects that cannot be used, and count them.")
    ] = False,
) -> None:
    """Make a data set to train on from what CVAT, Label Studio, labelme, Roboflow or a YOLO tool exports.

    Images are copied. Splits of SOURCE are kept. OUT is then the DATA of `pointrend train`.
    """
    from rich.console import Console

    from pointrend.data.conversion import convert_data
    from pointrend.progress import counting

    with one_line_errors(code=WRONG_USAGE):
        check_task(task)
    with counting("{}", console=Console(stderr=True)) as progress:
        done = convert_data(source, out, form=form, task=task, val=val, seed=seed, skip_bad=skip_bad, progress=progress)
    for note in done.notes:
        report(note, kind="note")
    splits = ", ".join(f"{count} images in {split}" for split, count in done.images.items())
    more = f" and {len(done.classes) - NAMED} more" if len(done.classes) > NAMED else ""
    named = f"{', '.join(done.classes[:NAMED])}{more}"
    print(f"{source} ({done.source}) -> {out}: {splits}; {len(done.classes)} classes: {named}")


def check_task(task: str | None, *, optional: bool = False) -> None:
    """Raise ValueError if --task names no task of data sets."""
    if task not in ("semantic", "instance") and not (optional and task is None):
        raise ValueError(f"--task must be semantic or instance, got {task!r}")


def _draw(found: Overview, picture: Path, progress: Any) -> int:
    """Write the picture, and return the number of samples on it."""
    from pointrend.contact_sheet import COLUMNS, ROWS, contact_sheet
    from pointrend.data.overview import chosen_samples
    from pointrend.files import atomic_path

    chosen = chosen_samples(found.splits, COLUMNS * ROWS)
    if not chosen:
        return 0
    classes = next(split.checked.samples.classes for split in found.splits if split.labelled and split.checked)
    sheet = contact_sheet(chosen, classes, task=found.task, progress=progress)
    with atomic_path(picture) as temporary:
        sheet.save(temporary)
    return len(chosen)


def _show(found: Overview) -> None:
    """Print what was found."""
    from rich.console import Console

    from pointrend.cli.tables import contents_table, table
    from pointrend.data.checks import describe

    console = Console()
    print(f"{found.root}: layout {found.layout}, for {found.task} segmentation\n")
    sizes = table("split", ("images", "smallest", "median", "largest", "labels"), justify="right")
    for split in found.splits:
        images = len(split.checked.samples.samples) if split.checked else 0
        lengths = [f"{width} x {height}" for height, width in split.sizes().values()] or ["-"] * 3
        labels = "yes" if split.labelled else "none" if split.checked else "unreadable"
        sizes.add_row(split.name or "(the folder)", f"{images:,}", *lengths, labels)
    console.print(sizes)
    contents = {
        split.name or "here": split.checked.census for split in found.splits if split.labelled and split.checked
    }
    if contents and len({census.samples.class_names for census in contents.values()}) == 1:
        console.print(contents_table(contents))
    else:
        for name, census in contents.items():
            console.print(contents_table({name: census}))
    for split in found.splits:
        for line in split.remarks:
            print(f"note: {line}")
        if split.error:
            print(f"problem: {split.error}")
        if split.checked is not None and split.checked.problems:
            print(f"problems of {split.name or found.root}:\n{describe(split.checked.problems, limit=LISTED)}")
    for line in found.between():
        print(f"problem: {line}")
    if found.sound:
        print("no problem found")


def _summary(found: Overview, picture: Path | None) -> dict[str, object]:
    """Return what was found for programs; sizes are [H, W]."""
    return {
        "root": str(found.root),
        "layout": found.layout,
        "task": found.task,
        "sound": found.sound,
        "splits": [_split_summary(split) for split in found.splits],
        "problems": found.between(),
        "picture": None if picture is None else str(picture),
    }


def _split_summary(split: SplitOverview) -> dict[str, object]:
    checked = split.checked
    problems = (
        [{"kind": one.kind, "path": str(one.path), "detail": one.detail} for one in checked.problems] if checked else []
    )
    census = checked.census if checked and split.labelled else None
    return {
        "name": split.name,
        "images": len(checked.samples.samples) if checked else 0,
        "labelled": split.labelled,
        "sizes": {name: list(size) for name, size in split.sizes().items()},
        "counts": census.unit if census else None,
        "classes": dict(zip(census.samples.class_names, census.counts.tolist(), strict=True)) if census else {},
        "ignored": census.ignored if census else 0,
        "error": split.error,
        "remarks": list(split.remarks),
        "problems": problems,
    }
