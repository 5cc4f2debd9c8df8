"""`pointrend runs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointrend.cli.errors import WRONG_USAGE, one_line_errors

if TYPE_CHECKING:
    from pointrend.training.runs import Run


def runs(
    folder: Annotated[Path, typer.Argument(help="A folder with runs, at any depth, or the folder of one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list for programs.")] = False,
) -> None:
    """Compare the trainings below a folder: how far they came, their scores, and the settings in which they differ."""
    from pointrend.cli.train import require_training_extra

    require_training_extra()
    from pointrend.errors import warn
    from pointrend.training.runs import differing, find_runs

    with one_line_errors(code=WRONG_USAGE):
        found = find_runs(folder)
    for run in found:
        if run.problem:
            warn(run.problem)
    keys = differing(found)
    if as_json:
        print(json.dumps([_described(run, folder, keys) for run in found], indent=2))
        return

    from rich.console import Console

    from pointrend.cli.tables import table

    result = table("run", ("recipe", "iterations", "best", "at", "last loss", "model"))
    if keys:
        result.add_column("settings that differ", overflow="fold")
    for run in found:
        best = "-" if run.best is None else f"{run.best:.2f} {run.score}"
        result.add_row(
            _name(run, folder),
            run.recipe or "-",
            f"{run.iteration}/{run.total or '?'}",
            best,
            "-" if run.best_at is None else str(run.best_at),
            "-" if run.loss is None else f"{run.loss:.4g}",
            "-" if run.model is None else run.model.name,
            *(["\n".join(f"{key}={_value(run.settings[key])}" for key in keys if key in run.settings)] if keys else []),
        )
    Console().print(result, markup=False)


def _name(run: Run, root: Path) -> str:
    return run.folder.resolve().name if run.folder == root else str(run.folder.relative_to(root))


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _described(run: Run, root: Path, keys: list[str]) -> dict[str, Any]:
    best = None if run.best is None else {"name": run.score, "value": run.best, "iteration": run.best_at}
    return {
        "run": _name(run, root),
        "recipe": run.recipe,
        "task": run.task,
        "iteration": run.iteration,
        "iterations": run.total,
        "best": best,
        "loss": run.loss,
        "model": None if run.model is None else str(run.model),
        "settings": {key: run.settings[key] for key in keys if key in run.settings},
        "problem": run.problem,
    }
