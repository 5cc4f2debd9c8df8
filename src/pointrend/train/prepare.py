"""What is looked at before a training starts, so that it fails in the first minute or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pointrend.data import SampleSet, ensure_sound, find_samples
from pointrend.data.instance_checks import ensure_sound_instances
from pointrend.data.instance_layouts import InstanceSet, find_instance_samples
from pointrend.evaluate.semantic import check_class_names, check_classes
from pointrend.train.checkpoint import CheckpointError
from pointrend.train.instance import InstanceTask
from pointrend.train.loop import BEST_MODEL, LAST_MODEL, RESUME_FILE
from pointrend.train.recipe import InstanceRecipe, Recipe, SemanticRecipe
from pointrend.train.semantic import SemanticTask
from pointrend.train.task import Task

Progress = Callable[[str, int, int], None]
"""Called with the split's name, the files done and their total."""


def prepare(recipe: Recipe, root: Path, *, progress: Progress | None = None) -> Task:
    """Find and check the training and the validation split below `root`, and make what the loop trains.

    Raises:
        ValueError: a split is missing, its files are unsound (each kind of problem is listed), or the classes differ.
    """
    if isinstance(recipe, InstanceRecipe):
        train, val = (_instances(recipe, root, split, progress) for split in (recipe.data.train, recipe.data.val))
        check_class_names(tuple(c.name for c in train.classes), tuple(c.name for c in val.classes))
        return InstanceTask(recipe, train, val)
    return SemanticTask(recipe, *prepare_data(recipe, root, progress=progress))


def prepare_data(
    recipe: SemanticRecipe, root: Path, *, progress: Progress | None = None
) -> tuple[SampleSet, SampleSet]:
    """The training and the validation split of label maps; see `prepare`."""
    splits = []
    for split in (recipe.data.train, recipe.data.val):
        samples = find_samples(root, layout=recipe.data.layout, split=split)
        ensure_sound(samples, progress=_of_split(progress, split))
        splits.append(samples)
    check_classes(tuple(c.name for c in splits[0].classes), splits[1])
    return splits[0], splits[1]


def _instances(recipe: InstanceRecipe, root: Path, split: str, progress: Progress | None) -> InstanceSet:
    samples = find_instance_samples(root, layout=recipe.data.layout, split=split)
    ensure_sound_instances(samples, progress=_of_split(progress, split))
    return samples


def _of_split(progress: Progress | None, split: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(split, done, total)


def check_output(out: Path, *, resume: bool) -> None:
    """Refuse to start over on top of another run, and to resume what is not there.

    Raises:
        CheckpointError: with what to do instead.
    """
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out}: is a file; --out expects a folder")
    held = [name for name in (RESUME_FILE, LAST_MODEL, BEST_MODEL) if (out / name).exists()]
    if resume and RESUME_FILE not in held:
        raise CheckpointError(f"{out / RESUME_FILE}: no checkpoint to resume from; start without --resume")
    if not resume and held:
        raise CheckpointError(f"{out}: holds a training already; go on with --resume, or take another --out")
