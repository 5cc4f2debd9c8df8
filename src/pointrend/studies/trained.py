"""Studies for which models are trained: variants of a recipe, each with several seeds (paper, tables 4 and 6)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointrend.errors import PointRendError
from pointrend.files import write_atomically
from pointrend.recipes import Recipe
from pointrend.studies.table import Spread, StudyTable
from pointrend.training import train
from pointrend.training.prepare import RESUME_FILE
from pointrend.training.recipe import load_recipe, to_yaml

SCORES_FILE = "scores.json"


@dataclass(frozen=True)
class Variant:
    """One row of a study: its title and the settings of the recipe that it changes."""

    title: str
    settings: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Return the title as the name of a folder."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def _sampling(title: str, *settings: str) -> Variant:
    return Variant(title, ("loss.sampling.num_points=1024", *(f"loss.sampling.{setting}" for setting in settings)))


TRAINED_STUDIES: Mapping[str, tuple[Variant, ...]] = {
    "sampling": (
        _sampling("regular grid", "regular=true"),
        _sampling("uniform (k=1, beta=0)", "oversample=1", "importance=0"),
        _sampling("mildly biased (k=3, beta=0.75)", "oversample=3", "importance=0.75"),
        _sampling("heavily biased (k=10, beta=1)", "oversample=10", "importance=1"),
    ),
    "pyramid": (
        Variant("P4 (stride 16)", ("model.fine_strides=[16]",)),
        Variant("P3 (stride 8)", ("model.fine_strides=[8]",)),
        Variant("P2 (stride 4)", ("model.fine_strides=[4]",)),
        Variant("P2 and the backbone's map at stride 2", ("model.fine_strides=[4, 2]",)),
    ),
}
"""How the points of training are chosen (paper, table 4), and where fine features come from."""

NUMBERS = ("miou", "boundary_iou")


def trained_study(
    name: str,
    recipe: str,
    data: str | Path,
    out: str | Path,
    *,
    seeds: int = 3,
    settings: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> StudyTable:
    """Train every variant of one of `TRAINED_STUDIES`, see `compare_variants`.

    Raises:
        PointRendError: no such study, or as `compare_variants`.
    """
    if name not in TRAINED_STUDIES:
        raise PointRendError(f"there is no study {name!r}; expected one of {', '.join(TRAINED_STUDIES)}")
    return compare_variants(
        name, TRAINED_STUDIES[name], recipe, data, out, seeds=seeds, settings=settings, progress=progress
    )


def compare_variants(
    title: str,
    variants: Sequence[Variant],
    recipe: str,
    data: str | Path,
    out: str | Path,
    *,
    seeds: int = 3,
    settings: Sequence[str] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> StudyTable:
    """Train variants of a recipe with several seeds each, and compare their scores on the validation split.

    Each training has a folder `OUT/VARIANT/seed-N`. Those that are done are not repeated, and one that was interrupted
    goes on, so a study may be stopped and called again.

    Args:
        title: of the table, and of its first column.
        variants: its rows.
        recipe: the name or file of a recipe of a semantic model; each training evaluates once, at its end.
        data: the folder of the data set.
        out: the folder of the study.
        seeds: trainings of each variant, with `train.seed` of 0, 1, ...
        settings: changes to the recipe for all variants.
        progress: called with a training's title, the number of trainings done and their total.

    Raises:
        PointRendError: a recipe of another task, a folder with trainings of other settings, or as `train`.
    """
    if seeds < 1:
        raise PointRendError(f"seeds must be at least 1, got {seeds}")
    recipes = {
        (variant, seed): _recipe(recipe, (*settings, *variant.settings, f"train.seed={seed}"))
        for variant in variants
        for seed in range(seeds)
    }
    scores: dict[Variant, list[Mapping[str, Mapping[str, float]]]] = {variant: [] for variant in variants}
    # All variants with one seed first, so that an interrupted study can already be compared.
    for done, (variant, seed) in enumerate(sorted(recipes, key=lambda key: key[1])):
        if progress is not None:
            progress(f"{variant.title}, seed {seed}", done, len(recipes))
        folder = Path(out) / variant.folder / f"seed-{seed}"
        scores[variant].append(_trained(recipes[variant, seed], Path(data), folder))
    if progress is not None:
        progress("done", len(recipes), len(recipes))
    return _table(title, scores)


def _recipe(recipe: str, settings: Sequence[str]) -> Recipe:
    loaded: Any = load_recipe(recipe, settings)
    if loaded.task != "semantic":
        raise PointRendError(f"the study needs a recipe of a semantic model, {loaded.name} is of task {loaded.task}")
    train = loaded.train.model_copy(update={"eval_every": loaded.train.iterations})
    return loaded.model_copy(update={"train": train})  # type: ignore[no-any-return]


def _trained(recipe: Recipe, data: Path, folder: Path) -> Mapping[str, Mapping[str, float]]:
    """Train, or read the scores of the finished training in a folder."""
    finished = folder / SCORES_FILE
    if finished.is_file():
        if (folder / "recipe.yaml").read_text() != to_yaml(recipe):
            raise PointRendError(f"{folder}: holds a training with other settings; choose another --out, or delete it")
        return json.loads(finished.read_text())  # type: ignore[no-any-return]
    outcome = train(recipe, data, folder, resume=(folder / RESUME_FILE).is_file())
    assert outcome.scores is not None
    rows = outcome.scores.rows
    write_atomically(finished, json.dumps(rows, indent=1).encode())
    return rows


def _table(title: str, scores: Mapping[Variant, Sequence[Mapping[str, Mapping[str, float]]]]) -> StudyTable:
    def spread(runs: Sequence[Mapping[str, Mapping[str, float]]], row: str, number: str) -> Spread:
        return Spread(tuple(run[row][number] for run in runs))

    columns = [f"{number} {row}" for number in ("mIoU", "Boundary IoU") for row in ("coarse", "pointrend")]
    return StudyTable(
        title=title,
        columns=(title, *columns),
        rows=tuple(
            (
                variant.title,
                *(spread(runs, row, number) for number in NUMBERS for row in ("coarse", "pointrend")),
            )
            for variant, runs in scores.items()
        ),
    )
