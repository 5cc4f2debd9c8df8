"""`pointrend train`."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointrend.cli.errors import STOPPED, WRONG_USAGE, one_line_errors

if TYPE_CHECKING:
    from rich.console import Group

    from pointrend.training.prepare import Training
    from pointrend.training.runs import Run


def require_training_extra() -> None:
    """Raise ImportError with the install command if a package for training or evaluation is missing."""
    for module in ("lightning_fabric", "tensorboard", "torchmetrics", "faster_coco_eval"):
        try:
            import_module(module)
        except ImportError as error:
            raise ImportError(f"training and evaluation need {module}: pip install 'pointrend[train]'") from error


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (people-lite0, nuclei-lite0, ...) or a .yaml file.")],
    data: Annotated[Path, typer.Option(help="Folder of the data set, with train/ and val/, or annotations/.")],
    out: Annotated[Path, typer.Option(help="Folder for models, checkpoint and logs.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting, e.g. train.iterations=2000. May be repeated. OUT/recipe.yaml lists all settings.",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            help="Start from the weights of a model (people-lite0, a file of ours, a published checkpoint), whose "
            "classes may be others: those of equal names are taken over. Of a host, its own state dict."
        ),
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(metavar="backbone|host", help="Train the rest alone; the host is an attached network.")
    ] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Processes on each node. torchrun and srun start them themselves.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes, each of which runs this command.")] = None,
    logger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Takes the numbers of OUT/log.csv too: tensorboard (the default), wandb or mlflow. May be repeated.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from OUT's last checkpoint.")] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out images and objects that cannot be used, and count them."),
    ] = False,
    allow_empty_classes: Annotated[
        bool, typer.Option("--allow-empty-classes", help="Train although a class occurs in no image.")
    ] = False,
) -> None:
    """Train a model from a recipe.

    Writes OUT/best.safetensors (by mIoU or mask AP on val) and OUT/last.safetensors, which can be given as MODEL to
    `predict` and `eval`; OUT/log.csv, curves.png and samples/, which show how it goes; OUT/recipe.yaml and run.json,
    which say what was run with what. Stop with Ctrl-C and continue with --resume. `pointrend runs` compares several.
    """
    require_training_extra()
    from rich.console import Console

    from pointrend.progress import counting
    from pointrend.training.launch import is_first
    from pointrend.training.loggers import check_loggers
    from pointrend.training.loop import train_prepared
    from pointrend.training.memory import keep_freed_memory
    from pointrend.training.prepare import check_output, prepare
    from pointrend.training.recipe import load_recipe
    from pointrend.training.runs import read_run

    first = is_first()
    console = Console(stderr=True, quiet=not first)
    with one_line_errors(code=WRONG_USAGE):
        flags = {
            "start.weights": init,
            "start.freeze": freeze,
            "train.devices": devices,
            "train.nodes": nodes,
            "train.loggers": logger,
            "data.skip_bad": skip_bad or None,
            "data.allow_empty_classes": allow_empty_classes or None,
        }
        given = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in flags.items() if value]
        settings = load_recipe(recipe, [*(set_ or ()), *given])
        check_loggers(settings.train.loggers)
        if first:
            check_output(out, resume=resume)
    with counting("checking {}", console=console) as progress:
        training = prepare(settings, data, progress=progress)
    console.print(_contents(training), highlight=False)
    if settings.train.accelerator == "cpu":
        keep_freed_memory()
    outcome = train_prepared(training, out, resume=resume)
    if outcome.stopped:
        console.print(
            f"stopped by SIGTERM after {outcome.iteration} iterations, which are saved in {out}: go on with --resume",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(STOPPED if first else 0)  # others that fail would be taken for a crash
    if first:
        console.print(_ending(read_run(out), outcome.iteration), highlight=False, markup=False, soft_wrap=True)


def _ending(run: Run, iteration: int) -> str:
    """Return one line with the model that a training made, and the command that uses it."""
    from pointrend.training.runs import use

    reached = "" if run.best is None else f" ({run.score} {run.best:.2f} at iteration {run.best_at})"
    return f"done after {iteration} iterations; the best model is {run.model}{reached}; to use it: {use(run)}"


def _contents(training: Training) -> Group:
    """Return what is trained on, for the terminal."""
    from rich.console import Group

    from pointrend.cli.tables import contents_table

    recipe = training.recipe
    length = f"{recipe.train.iterations} iterations of {recipe.train.batch_size} images"
    if training.val_samples is None:
        kinds = ", ".join(f"{source.kind} {source.share:g}" for source in recipe.data.sources)
        return Group(f"windows are drawn from {kinds}, and not evaluated; {length}")
    names = (recipe.data.train, recipe.data.val)
    return Group(
        contents_table(dict(zip(names, training.contents, strict=True))),
        f"{training.count} images to train on, {len(training.val_samples.samples)} to evaluate, "
        f"{len(training.spec.classes)} classes; {length}",
    )
