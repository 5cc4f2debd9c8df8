"""`pointrend calibrate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointrend.cli.errors import WRONG_USAGE, one_line_errors

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from pointrend.bench.precisions import PrecisionRow

MEASURED = 8
"""Photographs on which precisions are compared, at most."""
TICKS = 6
"""Predictions of each that are told to the progress bar: three precisions, a round that does not count, and one."""


def calibrate(
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO",
            help="Image files, folders of images, or patterns: some dozens like those the model will see.",
        ),
    ],
    model: Annotated[
        str, typer.Option(help="A name from 'pointrend models', or the path of a .safetensors, .pth or .pkl file.")
    ] = "people-lite0",
    limit: Annotated[int, typer.Option(min=1, help="Use the first so many photos.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a model faster on CPUs: compute in 8 bits, calibrated on your photographs.

    Half of the photos (all, if there is one) calibrate the network for the engine openvino. On up to 8 of the others,
    what is gained by bf16 and int8 is measured, and what it costs: the share of pixels whose label changes. The
    calibration is kept in the cache folder, in place of an earlier one of this model. Then:

    \b
      pointrend predict PHOTO... --model MODEL --engine openvino --precision int8
      pointrend eval MODEL DATA --engine openvino --precision int8   (with labels: what it costs in mIoU or AP)
    """
    from rich.console import Console

    from pointrend.bench.precisions import compare_precisions
    from pointrend.cli.photos import find_photos
    from pointrend.cli.progress import counting
    from pointrend.data.images import read_image
    from pointrend.inputs import network_input
    from pointrend.zoo.engines import calibrate_int8, with_engine
    from pointrend.zoo.load import load_model

    console = Console(stderr=True)
    with one_line_errors(code=WRONG_USAGE):
        found, problems = find_photos(photos)
        if problems:
            raise ValueError(problems[0][1])
        found = found[:limit]
        with console.status("Loading the model ..."):
            loaded = load_model(model)
            with_engine(loaded, "openvino")  # says what is missing before anything is read
    own = found[::2]
    others = (found[1::2] or found)[:MEASURED]
    spec = loaded.spec

    def load(path: Path) -> Tensor:
        return network_input(read_image(path), input=spec.input, test=spec.test).tensor

    calibrate_int8(loaded, _Reading(own, load))
    with counting("{}", console=console) as progress:
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            progress("comparing", done, TICKS * len(others))

        rows = compare_precisions(loaded, [read_image(path) for path in others], tick=tick)
    if as_json:
        content = {"model": spec.name, "calibrated_on": len(own), "compared_on": len(others)}
        print(json.dumps({**content, "rows": [row.to_dict() for row in rows]}, indent=2))
    else:
        Console().print(_table(rows, f"{spec.name}, calibrated on {len(own)} photos, compared on {len(others)}"))
        print(f"Use it: pointrend predict PHOTO... --model {model} --engine openvino --precision int8")


class _Reading:
    """Network inputs of photographs, read each time anew."""

    def __init__(self, paths: Sequence[Path], load: Callable[[Path], Tensor]) -> None:
        self._paths, self._load = paths, load

    def __iter__(self) -> Iterator[Tensor]:
        return map(self._load, self._paths)


def _table(rows: list[PrecisionRow], title: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for column in ("precision", "seconds a photo", "times as fast", "pixels that change"):
        table.add_column(column)
    for row in rows:
        changed = "" if row.precision == "f32" else f"{100 * row.differ:.2f} %"
        table.add_row(row.precision, f"{row.seconds.median:.3f}", f"{row.faster.median:.2f}", changed)
    return table
