"""What is looked at before a training starts, so that it fails in the first minute or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pointrend.data import SampleSet, ensure_sound, find_samples
from pointrend.evaluate import check_classes
from pointrend.train.checkpoint import CheckpointError
from pointrend.train.loop import BEST_MODEL, LAST_MODEL, RESUME_FILE
from pointrend.train.recipe import Recipe

Progress = Callable[[str, int, int], None]
"""Called with the split's name, the files done and their total."""


def prepare_data(recipe: Recipe, root: Path, *, progress: Progress | None = None) -> tuple[SampleSet, SampleSet]:
    """Find and check the training and the validation split below `root`.

    Raises:
        ValueError: a split is missing, its files are unsound (each kind of problem is listed), or the classes differ.
    """
    splits = []
    for split in (recipe.data.train, recipe.data.val):
        samples = find_samples(root, layout=recipe.data.layout, split=split)
        report = None if progress is None else lambda done, total, split=split: progress(split, done, total)
        ensure_sound(samples, progress=report)
        splits.append(samples)
    check_classes(tuple(c.name for c in splits[0].classes), splits[1])
    return splits[0], splits[1]


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
