"""`pointrend study`: the paper's studies on data at hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointrend.cli import options
from pointrend.cli.errors import WRONG_USAGE, one_line_errors
from pointrend.cli.train import require_training_extra

if TYPE_CHECKING:
    from pointrend.studies import StudyTable

app = typer.Typer(
    help="Repeat the paper's studies on data at hand: what steps, points and feature maps give, and what masks cost.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Data = Annotated[Path, typer.Option(help="Folder of the data set, with train/ and val/, or annotations/.")]
Out = Annotated[Path, typer.Option(help="Folder for the trainings; what is done in it is not repeated.")]
Recipe = Annotated[str, typer.Argument(help="A recipe's name (camvid-lite0, people-lite0, ...) or a .yaml file.")]
Seeds = Annotated[int, typer.Option(min=1, metavar="N", help="Trainings of each variant.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of all trainings. May be repeated."),
]


@app.command("subdivision")
def subdivision(
    model: Annotated[str, typer.Argument(help="A model's name (see `pointrend models`) or file.")],
    data: Annotated[Path, typer.Argument(help="The folder of a split, or of a data set, see --split.")],
    split: Annotated[str | None, typer.Option(help="The split, if DATA is a whole data set.")] = None,
    layout: Annotated[
        str | None, typer.Option(metavar="NAME", help="How DATA is laid out; see `pointrend eval`.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="S,S,...", help="Rendering steps.  [default: 0 to one more than the model's]")
    ] = None,
    points: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Points of a step.  [default: 1/16, 1/4, 1 and 4 times the model's]"),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only the first so many images.")] = None,
    device: options.Device = "cpu",
    as_json: options.Json = False,
) -> None:
    """Score a model by output resolution and number of points (paper, table 3). Nothing is trained."""
    require_training_extra()
    from pointrend.cli.evaluate import fitting_layout
    from pointrend.cli.progress import checked
    from pointrend.data import find_samples
    from pointrend.evaluation import check_class_names
    from pointrend.predict import PredictOptions
    from pointrend.studies import subdivision_study

    loaded = options.load_or_exit(model, device=device, engine="torch", precision="float32")
    own = loaded.spec.test.subdivision
    with one_line_errors(code=WRONG_USAGE):
        layout = layout or fitting_layout(data, loaded.spec.layout)
        samples = find_samples(data, task=loaded.spec.task, layout=layout, split=split)
        check_class_names(loaded.spec.class_names, samples.class_names)
        of_steps = _numbers(steps, "--steps", range(own.steps + 2))
        of_points = _numbers(points, "--points", [max(1, own.num_points * n // 16) for n in (1, 4, 16, 64)])
        for step in of_steps:  # reports invalid numbers before files are read
            for count in of_points:
                loaded.scoring_predictor(PredictOptions(steps=step, points=count))
    with checked(samples) as progress:
        tables = subdivision_study(
            loaded, samples, steps=of_steps, points=of_points, limit=limit, progress=progress("evaluating")
        )
    _show(tables, as_json=as_json)


@app.command("sampling")
def sampling(
    recipe: Recipe, data: Data, out: Out, seeds: Seeds = 3, set_: Set = None, as_json: options.Json = False
) -> None:
    """Train with points chosen on a grid, at random, and by uncertainty (paper, table 4)."""
    _trained("sampling", recipe, data, out, seeds, set_ or [], as_json=as_json)


@app.command("pyramid")
def pyramid(
    recipe: Recipe, data: Data, out: Out, seeds: Seeds = 3, set_: Set = None, as_json: options.Json = False
) -> None:
    """Train with fine features from maps of stride 16, 8, 4, and 4 with 2."""
    _trained("pyramid", recipe, data, out, seeds, set_ or [], as_json=as_json)


@app.command("cost")
def cost(
    classes: Annotated[int, typer.Option(min=1, help="Number of classes.")] = 80, as_json: options.Json = False
) -> None:
    """Count operations and activations of mask heads at the published numbers (paper, table 2).

    Operations are multiply-adds of convolutions and linear layers, activations the numbers that these layers give out;
    at once: those of the largest part that is computed at a time, a step of rendering or a whole head of convolutions.
    """
    from pointrend.studies import StudyTable, mask_head_costs

    rows = tuple(
        (
            one.name,
            f"{one.resolution}x{one.resolution}",
            f"{one.operations / 1e9:.2f} B",
            f"{one.activations / 1e6:.2f} M",
            f"{one.activations_at_once / 1e6:.2f} M",
        )
        for one in mask_head_costs(classes)
    )
    columns = ("mask head", "resolution", "operations", "activations", "at once")
    _show([StudyTable(f"one object, {classes} classes", columns, rows)], as_json=as_json)


def _trained(
    name: str, recipe: str, data: Path, out: Path, seeds: int, settings: Sequence[str], *, as_json: bool
) -> None:
    require_training_extra()
    from rich.console import Console

    from pointrend.studies import trained_study

    console = Console(stderr=True)

    def progress(title: str, done: int, total: int) -> None:
        console.print(f"training {done + 1} of {total}: {title}" if done < total else f"{total} trainings are done")

    with one_line_errors(code=WRONG_USAGE):
        table = trained_study(name, recipe, data, out, seeds=seeds, settings=settings, progress=progress)
    _show([table], as_json=as_json)


def _numbers(text: str | None, option: str, default: Sequence[int]) -> list[int]:
    """Return the numbers in an option's text, or the default."""
    if text is None:
        return list(default)
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} must be whole numbers with commas between them, got {text!r}") from None


def _show(tables: Sequence[StudyTable], *, as_json: bool) -> None:
    if as_json:
        json.dump([table.to_dict() for table in tables], sys.stdout, indent=1)
        print()
        return
    for table in tables:
        print(f"{table.title}\n\n{table.markdown()}\n")
