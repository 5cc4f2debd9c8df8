"""Checks of data and output folder before training starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pointrend.data import SampleSet, SegmentationDataset, ensure_sound, find_samples, repeat_factors, train_transform
from pointrend.evaluation import check_class_names
from pointrend.recipes import Recipe
from pointrend.spec import ModelSpec
from pointrend.tasks import TASKS, Task
from pointrend.training.checkpoint import CheckpointError

RESUME_FILE = "last.pt"
LAST_MODEL = "last.safetensors"
BEST_MODEL = "best.safetensors"

Progress = Callable[[str, int, int], None]
"""Called with the split's name, the number of files done and their total."""


@dataclass(frozen=True)
class Training:
    """A recipe with the splits to train and to evaluate on."""

    recipe: Any
    """A `Recipe` of the task."""
    train_samples: SampleSet
    val_samples: SampleSet | None
    """None: no evaluation."""

    @property
    def task(self) -> Task:
        """Return the recipe's task."""
        return TASKS[self.recipe.task]

    @cached_property
    def spec(self) -> ModelSpec:
        """Return the spec of the model files."""
        classes = self.train_samples.classes
        return self.task.spec(
            name=self.recipe.name,
            task=self.recipe.task,
            num_logits=self.task.num_logits(len(classes)),
            architecture=self.recipe.model,
            classes=classes,
            input=self.recipe.input,
            test=self.recipe.test,
            layout=self.train_samples.layout,
        )

    @property
    def repeats(self) -> np.ndarray | None:
        """Return (images,) the mean number of times each image is seen in an epoch; None: once each."""
        threshold = getattr(self.recipe.augment, "repeat_threshold", 0.0)
        return repeat_factors(self.train_samples, threshold) if threshold else None

    def dataset(self) -> SegmentationDataset:
        """Return the augmented training samples."""
        return SegmentationDataset(self.train_samples, train_transform(self.recipe.augment, self.recipe.input))


def prepare(recipe: Recipe, root: Path, *, progress: Progress | None = None) -> Training:
    """Find and check the training and the validation split below `root`.

    Raises:
        PointRendError: a split is missing, has unusable files (listed by kind of problem), or its classes differ.
    """

    def split(name: str) -> SampleSet:
        samples = find_samples(root, task=recipe.task, layout=recipe.data.layout, split=name)
        ensure_sound(samples, progress=None if progress is None else lambda done, total: progress(name, done, total))
        return samples

    train, val = split(recipe.data.train), split(recipe.data.val)
    check_class_names(train.class_names, val.class_names)
    return Training(recipe, train, val)


def check_output(out: Path, *, resume: bool) -> None:
    """Raise `CheckpointError` if `out` has a training that would be overwritten, or no checkpoint to resume from."""
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out}: is a file; --out expects a folder")
    if resume and not (out / RESUME_FILE).exists():
        raise CheckpointError(f"{out / RESUME_FILE}: no checkpoint to resume from; start without --resume")
    if not resume and any((out / name).exists() for name in (RESUME_FILE, LAST_MODEL, BEST_MODEL)):
        raise CheckpointError(f"{out}: already has a training; continue with --resume, or choose another --out")
