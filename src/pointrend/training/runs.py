"""What the runs below a folder were, how far they came, and what they reached."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointrend.errors import PointRendError
from pointrend.recipes import Recipe
from pointrend.tasks import TASKS
from pointrend.training.environment import RUN_FILE
from pointrend.training.log import LOG_FILE, SCORE, STEP, LogError, read_log
from pointrend.training.prepare import BEST_MODEL, LAST_MODEL
from pointrend.training.recipe import RecipeError, flat_settings, from_yaml

RECIPE_FILE = "recipe.yaml"
NOT_COMPARED = ("name", "task", "description")
"""Settings that have a column of their own, or that change nothing."""


@dataclass(frozen=True)
class Run:
    """A training as its folder shows it; None is what the folder does not show."""

    folder: Path
    recipe: str | None
    task: str | None
    iteration: int
    """The iterations done, as far as they are logged."""
    total: int | None
    score: str | None
    """The name of the score that the best model is chosen by."""
    best: float | None
    best_at: int | None
    """The iteration of the best score."""
    loss: float | None
    """The last one that was logged."""
    model: Path | None
    """The best model, or the last one if there was no evaluation."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All settings of the recipe by their dotted keys."""
    problem: str | None = None
    """What is damaged, in one line."""


def find_runs(root: Path) -> list[Run]:
    """Return the runs in a folder and below it, by path.

    Raises:
        PointRendError: there is no such folder, or no run in it.
    """
    if not root.is_dir():
        raise PointRendError(f"{root}: expected a folder with runs, got {'a file' if root.exists() else 'nothing'}")
    runs = []
    for folder, inside, files in os.walk(root):
        inside.sort()
        if RECIPE_FILE in files and (LOG_FILE in files or RUN_FILE in files):
            runs.append(read_run(Path(folder)))
            inside.clear()  # a run has none of its own below
    if not runs:
        raise PointRendError(
            f"{root}: no runs here; a run is a folder that pointrend train wrote, with {RECIPE_FILE} and {LOG_FILE}"
        )
    return runs


def read_run(folder: Path) -> Run:
    """Return what a run's folder shows; what is damaged is said in `Run.problem`."""
    problems: list[str] = []
    recipe = _recipe(folder / RECIPE_FILE, problems)
    rows: list[dict[str, float]] = []
    try:
        rows = read_log(folder / LOG_FILE)
    except (LogError, OSError) as error:
        problems.append(str(error))
    scored = [(row[SCORE], int(row[STEP])) for row in rows if not math.isnan(row.get(SCORE, math.nan))]
    best, at = max(scored, key=lambda pair: pair[0], default=(None, None))  # of equal ones the first, as when training
    losses = [row["loss"] for row in rows if "loss" in row]
    models = [folder / name for name in (BEST_MODEL, LAST_MODEL) if (folder / name).is_file()]
    return Run(
        folder=folder,
        recipe=recipe.name if recipe else None,
        task=recipe.task if recipe else None,
        iteration=int(rows[-1][STEP]) if rows else 0,
        total=recipe.train.iterations if recipe else None,
        score=TASKS[recipe.task].main_score if recipe else None,
        best=best,
        best_at=at,
        loss=losses[-1] if losses else None,
        model=models[0] if models else None,
        settings=flat_settings(recipe) if recipe else {},
        problem="; ".join(problems) or None,
    )


def _recipe(path: Path, problems: list[str]) -> Recipe | None:
    try:
        return from_yaml(path.read_text(encoding="utf-8"))
    except (RecipeError, OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: {' '.join(str(error).split())}")
        return None


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the settings in which runs differ, those included that some do not have."""
    known = [run.settings for run in runs if run.settings]
    keys = dict.fromkeys(key for settings in known for key in settings if key not in NOT_COMPARED)
    return [key for key in keys if any(settings.get(key) != known[0].get(key) for settings in known)]


def use(run: Run) -> str | None:
    """Return the command that uses a run's model; None without one."""
    if run.model is None or run.task is None:
        return None
    return TASKS[run.task].command.format(model=shlex.quote(str(run.model)))
