"""`pointrend train`."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from pointrend.cli.errors import WRONG_USAGE, one_line_errors


def require_training_extra() -> None:
    """Say what to install before anything else is done.

    Raises:
        ImportError: with the command.
    """
    for module in ("lightning_fabric", "tensorboard", "torchmetrics", "faster_coco_eval"):
        try:
            import_module(module)
        except ImportError as error:
            raise ImportError(f"training and evaluation need {module}: pip install 'pointrend[train]'") from error


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (people-lite0, nuclei-lite0, ...) or a .yaml file.")],
    data: Annotated[Path, typer.Option(help="The data set: the folder that holds train/ and val/, or annotations/.")],
    out: Annotated[Path, typer.Option(help="The run's folder: models, checkpoint, logs.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting, e.g. train.iterations=2000. May be repeated. All are in OUT/recipe.yaml.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on exactly where OUT's last checkpoint stopped.")
    ] = False,
) -> None:
    """Train a model from a recipe.

    Writes OUT/best.safetensors (by mIoU or mask AP on val) and OUT/last.safetensors, which `predict` and `eval` take as
    MODEL, and OUT/log.csv and OUT/tensorboard. Stop with Ctrl-C and go on with --resume.
    """
    require_training_extra()
    from rich.console import Console

    from pointrend.cli.progress import counting
    from pointrend.train.loop import train as run
    from pointrend.train.memory import keep_freed_memory
    from pointrend.train.prepare import check_output, prepare
    from pointrend.train.recipe import load_recipe

    first = os.environ.get("LOCAL_RANK", "0") == "0"  # of the processes that this command may start
    console = Console(stderr=True, quiet=not first)
    with one_line_errors(code=WRONG_USAGE):
        settings = load_recipe(recipe, set_ or ())
        if first:
            check_output(out, resume=resume)
    with counting("checking {}", console=console) as progress:
        task = prepare(settings, data, progress=progress)
    console.print(
        f"{task.num_images[0]} images to train on, {task.num_images[1]} to evaluate, "
        f"{len(task.spec.classes)} classes; "
        f"{settings.train.iterations} iterations of {settings.train.batch_size} images",
        highlight=False,
    )
    if settings.train.accelerator == "cpu":
        keep_freed_memory()
    outcome = run(task, out, resume=resume)
    console.print(f"done: {outcome.model} after {outcome.iteration} iterations", highlight=False, soft_wrap=True)
