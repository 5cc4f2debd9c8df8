"""Checks of data and output folder before training starts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from pointrend.data import (
    Census,
    DatasetError,
    SampleSet,
    SegmentationDataset,
    ensure_learnable,
    ensure_sound,
    find_samples,
    repeat_factors,
    train_transform,
    with_objects,
)
from pointrend.data.census import remarks
from pointrend.data.checks import Checked, shared_images
from pointrend.data.problems import ANNOTATION
from pointrend.errors import warn
from pointrend.evaluation import check_class_names
from pointrend.models.encoder import rounded_up
from pointrend.recipes import Recipe
from pointrend.spec import REFINED_CLASSES, ModelSpec
from pointrend.tasks import TASKS, Task, samples_of
from pointrend.training.checkpoint import CheckpointError, earlier
from pointrend.zoo import Model
from pointrend.zoo.modelfile import network_of

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
    contents: tuple[Census, ...] = ()
    """What the splits show, if they were counted."""
    model: Model | None = None
    """What is trained, if it is not the recipe's own network."""

    @property
    def task(self) -> Task:
        """Return the recipe's task."""
        return TASKS[self.recipe.task]

    @cached_property
    def spec(self) -> ModelSpec:
        """Return the spec of the model files."""
        classes = self.train_samples.classes
        given = self.model
        num_logits = self.task.num_logits(len(classes)) if given is None else given.spec.num_logits
        architecture = self.task.resolved(self.recipe.model, num_logits)
        return self.task.spec(
            name=self.recipe.name,
            task=self.recipe.task,
            num_logits=num_logits,
            architecture=architecture,
            classes=classes,
            input=self.recipe.input,
            test=self.recipe.test,
            layout=self.train_samples.layout,
        )

    def new_network(self) -> Any:
        """Return the network to train: a copy of the given model's, or the recipe's with new weights."""
        return network_of(self.spec) if self.model is None else copy.deepcopy(self.model.network)

    @property
    def repeats(self) -> np.ndarray | None:
        """Return (images,) the mean number of times each image is seen in an epoch; None: once each."""
        threshold = getattr(self.recipe.augment, "repeat_threshold", 0.0)
        return repeat_factors(self.train_samples, threshold) if threshold else None

    @property
    def count(self) -> int:
        """Return the number of items of `dataset`, of which an epoch has each once."""
        return len(self.train_samples.samples)

    def dataset(self) -> Dataset[Any]:
        """Return the augmented training samples."""
        input = self.recipe.input
        return SegmentationDataset(
            self.train_samples, train_transform(self.recipe.augment, input), reading=input.reading
        )


@dataclass(frozen=True)
class DrawnTraining(Training):
    """A recipe with windows that are drawn, and no split to evaluate on."""

    windows: Any = None
    repeats = None

    @property
    def count(self) -> int:
        """Return the number of windows of an epoch."""
        return len(self.windows)

    def dataset(self) -> Dataset[Any]:
        """Return the windows."""
        return self.windows  # type: ignore[no-any-return]


def check_logits(model: Model, training: Training) -> None:
    """Raise `DatasetError` if the logits of a model are not those of the data's classes."""
    classes, found = training.train_samples.class_names, model.spec.num_logits
    if found not in (len(classes), training.task.num_logits(len(classes))):
        raise DatasetError(
            f"{model.spec.name} has {found} logits, but the data has {len(classes)} classes ({', '.join(classes[:8])})"
        )


def check_sizes(network: Any, recipe: Any) -> None:
    """Raise `DatasetError` if crops, or images that are padded for an evaluation, have sizes that a network refuses."""
    multiple = getattr(network, "multiple", 1)
    if multiple == 1:
        return
    crop = getattr(recipe.augment, "crop", None)
    if crop is not None and (fitting := rounded_up(crop, multiple)) != tuple(crop):
        raise DatasetError(
            f"augment.crop is {list(crop)}, but the network takes sides that are multiples of {multiple}: "
            f"set augment.crop={list(fitting)}"
        )
    if recipe.test.pad_multiple % multiple:
        raise DatasetError(
            f"test.pad_multiple is {recipe.test.pad_multiple}, but the network takes sides that are multiples of "
            f"{multiple}: set test.pad_multiple={multiple}"
        )


def prepare(recipe: Recipe, root: Path, *, progress: Progress | None = None) -> Training:
    """Find and check the training and the validation split below `root`; what is left out or odd is warned of.

    Raises:
        PointRendError: a split is missing, shows nothing, shares images with the other one, has unusable files (listed
            by kind of problem), or its classes differ.
    """
    if root.is_file():
        raise DatasetError(f"{root}: expected the folder of a data set, which has both splits, got a file")

    if (windows := TASKS[recipe.task].windows) is not None:
        none = SampleSet(recipe.name, recipe.task, (), REFINED_CLASSES, metrics=())
        return DrawnTraining(recipe, none, None, windows=windows(recipe, root))

    def split(name: str) -> Census:
        samples = find_samples(root, task=samples_of(recipe.task), layout=recipe.data.layout, split=name)
        checked = ensure_sound(
            samples,
            skip_bad=recipe.data.skip_bad,
            reading=recipe.input.reading,
            progress=None if progress is None else lambda done, total: progress(name, done, total),
        )
        for line in (*_left_out(name, samples, checked), *remarks(name, checked.census)):
            warn(line)
        return replace(checked.census, samples=checked.samples)

    train, val = split(recipe.data.train), split(recipe.data.val)
    check_class_names(train.samples.class_names, val.samples.class_names)
    TASKS[recipe.task].check_loss(getattr(recipe, "loss", None), len(train.samples.classes))
    ensure_learnable(recipe.data.train, train, allow_empty_classes=recipe.data.allow_empty_classes)
    ensure_learnable(recipe.data.val, val, allow_empty_classes=True)
    if lacking := [name for name in val.missing() if name not in train.missing()]:
        warn(f"{recipe.data.val} does not show {', '.join(lacking[:5])}{', ...' if len(lacking) > 5 else ''}")
    if recipe.data.train == recipe.data.val:
        warn(f"the model is trained and evaluated on the same split, {recipe.data.val}")
    else:
        _ensure_apart(train.samples, val.samples)
    return Training(recipe, _learned_from(recipe, train.samples), val.samples, contents=(train, val))


def _learned_from(recipe: Recipe, samples: SampleSet) -> SampleSet:
    """Return the training split without what `data.skip_empty` leaves out, and warn of how many images that are."""
    if not getattr(recipe.data, "skip_empty", False):
        return samples
    kept = with_objects(samples)
    if count := len(samples.samples) - len(kept.samples):
        warn(f"{count} images of {recipe.data.train} without objects are left out of training (data.skip_empty)")
    return kept


def _left_out(name: str, samples: SampleSet, checked: Checked) -> list[str]:
    """Return a line for the images, and one for the objects, that `data.skip_bad` left out."""
    used = {sample.image for sample in checked.samples.samples}
    images = len(samples.samples) - len(used)
    objects = sum(problem.kind == ANNOTATION and problem.path in used for problem in checked.problems)
    first = {problem.path in used: problem for problem in reversed(checked.problems)}
    amounts = ((images, "images", False), (objects, "objects", True))
    return [
        f"{count} {what} of {name} are left out, first {first[there].path}: {first[there].detail}"
        for count, what, there in amounts
        if count and there in first
    ]


def _ensure_apart(train: SampleSet, val: SampleSet) -> None:
    """Raise `DatasetError` if an image is in both splits."""
    if shared := shared_images(train, val):
        more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
        raise DatasetError(
            f"{shared[0]}{more}: in the training and in the validation split; a model must be evaluated on images "
            "that it was not trained on"
        )


def check_output(out: Path, *, resume: bool) -> None:
    """Raise `CheckpointError` if `out` has a training that would be overwritten, or no checkpoint to resume from."""
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out}: is a file; --out expects a folder")
    if resume and not any(path.exists() for path in (out / RESUME_FILE, *earlier(out / RESUME_FILE))):
        raise CheckpointError(f"{out / RESUME_FILE}: no checkpoint to resume from; start without --resume")
    if not resume and any((out / name).exists() for name in (RESUME_FILE, LAST_MODEL, BEST_MODEL)):
        raise CheckpointError(f"{out}: already has a training; continue with --resume, or choose another --out")
