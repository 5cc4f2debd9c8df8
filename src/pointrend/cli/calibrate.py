"""`pointrend calibrate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointrend.cli import options
from pointrend.cli.errors import WRONG_USAGE, one_line_errors

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from pointrend.precisions import PrecisionRow

MEASURED = 8
"""The maximum number of photos on which precisions are compared."""
TICKS = 6
"""Progress ticks per photo: 3 precisions x (1 warm-up + 1 timed)."""


def calibrate(
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTO", help="Image files, folders or patterns: a few dozen photos like those the model will see."
        ),
    ],
    model: options.Model = "people-lite0",
    limit: Annotated[int, typer.Option(min=1, help="Use at most this many photos.")] = 100,
    as_json: options.Json = False,
) -> None:
    """Make a model faster on CPUs: compute in 8 bits, calibrated on your photos.

    Half of the photos calibrate the network for the engine openvino. On up to 8 of the others, bfloat16 and int8 are
    compared to float32: how much faster they are, and the percentage of pixels whose label changes. The calibration is
    saved in the cache folder and replaces an earlier one of this model. Then use it:

    \b
      pointrend predict PHOTO... --model MODEL --engine openvino --precision int8
      pointrend eval MODEL DATA --engine openvino --precision int8   (for its effect on mIoU or AP)
    """
    from rich.console import Console

    from pointrend.cli.photos import find_photos
    from pointrend.data.images import read_image
    from pointrend.inputs import network_input
    from pointrend.precisions import compare_precisions
    from pointrend.progress import counting
    from pointrend.zoo.engines import calibrate_int8, with_engine
    from pointrend.zoo.load import load_model

    console = Console(stderr=True)
    with one_line_errors(code=WRONG_USAGE):
        paths, problems = find_photos(photos)
        if problems:
            raise ValueError(problems[0][1])
        paths = paths[:limit]
        with console.status("Loading the model ..."):
            loaded = load_model(model)
            with_engine(loaded, "openvino")  # fails early if openvino is not installed
    calibrating, comparing = paths[::2], (paths[1::2] or paths)[:MEASURED]
    spec = loaded.spec

    def load(path: Path) -> Tensor:
        return network_input(read_image(path), input=spec.input, test=spec.test)[0]

    calibrate_int8(loaded, _Reading(calibrating, load))
    with counting("{}", console=console) as progress:
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            progress("comparing", done, TICKS * len(comparing))

        rows = compare_precisions(loaded, [read_image(path) for path in comparing], tick=tick)
    if as_json:
        content = {"model": spec.name, "calibrated_on": len(calibrating), "compared_on": len(comparing)}
        print(json.dumps({**content, "rows": [row.to_dict() for row in rows]}, indent=2))
    else:
        title = f"{spec.name}, calibrated on {len(calibrating)} photos, compared on {len(comparing)}"
        Console().print(_table(rows, title))
        print(f"Use it: pointrend predict PHOTO... --model {model} --engine openvino --precision int8")


class _Reading:
    """An iterable of the network inputs of photos, which are read again in every iteration."""

    def __init__(self, paths: Sequence[Path], load: Callable[[Path], Tensor]) -> None:
        self._paths, self._load = paths, load

    def __iter__(self) -> Iterator[Tensor]:
        return map(self._load, self._paths)


def _table(rows: list[PrecisionRow], title: str) -> Table:
    from pointrend.cli.tables import table

    result = table("precision", ["seconds a photo", "times as fast", "pixels that change"], title=title)
    for row in rows:
        changed = "" if row.precision == "float32" else f"{100 * row.differ:.2f} %"
        result.add_row(row.precision, f"{row.seconds.median:.3f}", f"{row.faster.median:.2f}", changed)
    return result
