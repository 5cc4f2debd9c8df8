"""Annotations of one image that are images: labels, or ids of objects. `coco_annotations` has COCO's and LVIS's.

Shapes: R instances, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torchvision import tv_tensors

from pointrend.data.images import ImageError, read_ids, read_labels
from pointrend.data.instance_masks import in_parts, measured, one_layer
from pointrend.data.problems import ANNOTATION, SIZE, UNREADABLE, VALUE, DatasetError, Problem
from pointrend.data.samples import Annotations, Inspection, InstanceMasks, InstanceTruth

NUMBERS = 1000
"""Objects of a class are numbered below this in id images of several classes."""
OTHER_VALUES = "label values beside 0 and 255"
ONLY_ID_255 = "one id, 255"
ONE_ID_IN_PARTS = "one id, in several parts"


@dataclass(frozen=True, eq=False)
class LabelValues:
    """The meaning of the values of label images."""

    lookup: np.ndarray
    """(256,) uint8: train id, or `IGNORE`, of each raw label value."""
    valid: np.ndarray
    """(256,) bool: whether each raw label value is allowed."""


@dataclass(frozen=True, eq=False)
class LabelImage(Annotations):
    """A label image: a class at every pixel."""

    path: Path
    values: LabelValues

    def read(self, size: tuple[int, int]) -> tv_tensors.Mask:
        """Read the train ids (H, W) uint8."""
        return tv_tensors.Mask(torch.from_numpy(self.truth(size)))

    def truth(self, size: tuple[int, int]) -> np.ndarray:
        """Read the train ids (H, W) uint8."""
        raw = of_size(read_labels(self.path), size, self.path)
        if len(wrong := raw[~self.values.valid[raw]]):
            raise DatasetError(
                f"{self.path}: label value {wrong[0]} is no class; allowed are {_ranges(self.values.valid)}"
            )
        labels: np.ndarray = self.values.lookup[raw]
        return labels

    def inspect(self, image: Path, size: tuple[int, int] | None, *, whole: bool) -> Inspection:
        """Decode the file, look for problems, and count the pixels of each train id."""
        try:
            raw = read_labels(self.path)
        except ImageError as error:
            return Inspection((Problem.of(UNREADABLE, self.path, error),))
        problems = []
        if size is not None and size != raw.shape:
            detail = f"labels are {raw.shape[1]} x {raw.shape[0]}, the image {image.name} is {size[1]} x {size[0]}"
            problems.append(Problem(SIZE, self.path, detail))
        pixels = np.bincount(raw.ravel(), minlength=256)
        occurs = pixels > 0
        if wrong := np.flatnonzero(occurs & ~self.values.valid).tolist():
            listed = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
            problems.append(Problem(VALUE, self.path, f"value {listed}; allowed are {_ranges(self.values.valid)}"))
        return Inspection(
            problems=tuple(problems),
            usable=None if problems else self,
            counts=np.bincount(self.values.lookup, weights=pixels, minlength=256),
            marks=(OTHER_VALUES,) if occurs[1:255].any() else (),
        )


@dataclass(frozen=True, eq=False)
class Unlabelled(Annotations):
    """The annotations of an image that has none: it can be predicted, but not trained on or scored."""

    def read(self, size: tuple[int, int]) -> None:
        """Raise `DatasetError`."""
        raise DatasetError("images without labels can be predicted, but not trained on or scored")

    def truth(self, size: tuple[int, int]) -> None:
        """Raise `DatasetError`."""
        self.read(size)

    def inspect(self, image: Path, size: tuple[int, int] | None, *, whole: bool) -> Inspection:
        """Find nothing."""
        return Inspection(usable=self, read=False)


@dataclass(frozen=True, eq=False)
class IdImage(Annotations):
    """An id image: each object's pixels hold its number, the background holds 0. All objects are of one class."""

    path: Path

    def read(self, size: tuple[int, int]) -> InstanceMasks:
        """Read the instances. Pixels with the same number are one object, even if they do not touch."""
        return self._instances(of_size(read_ids(self.path), size, self.path))

    def truth(self, size: tuple[int, int]) -> InstanceTruth:
        """Read the instances; boxes are the extents of the masks."""
        return measured(self.read(size))

    def inspect(self, image: Path, size: tuple[int, int] | None, *, whole: bool) -> Inspection:
        """Read the file if `whole`, look for problems, and count the objects."""
        if size is None or not whole:
            return Inspection(usable=self, read=False)
        try:
            masks = self.read(size)
        except ValueError as error:
            return Inspection((Problem(ANNOTATION, image, str(error)),))
        counts = np.bincount(masks.classes[~masks.crowd].numpy(), minlength=1)
        return Inspection(usable=self, counts=counts, marks=self._marks(masks))

    def _marks(self, masks: InstanceMasks) -> tuple[str, ...]:
        if len(masks.instance_ids) != 1:
            return ()
        marks = (ONE_ID_IN_PARTS,) if in_parts(masks.mask(0)) else ()
        return (*marks, ONLY_ID_255) if int(masks.instance_ids[0]) == 255 else marks

    def _instances(self, ids: np.ndarray) -> InstanceMasks:
        numbers = np.unique(ids[ids > 0]).tolist()
        return one_layer(ids, numbers, [0] * len(numbers), [False] * len(numbers))


@dataclass(frozen=True, eq=False)
class ClassIds(IdImage):
    """An id image of several classes: objects have class value * 1000 + number; a class value alone marks a crowd."""

    things: tuple[int, ...]
    """The values of the classes with instances, in the order of their class indices."""

    def _marks(self, masks: InstanceMasks) -> tuple[str, ...]:
        return ()  # its ids name classes, and a group of objects is one id

    def _instances(self, ids: np.ndarray) -> InstanceMasks:
        labels = {value: value // NUMBERS if value >= NUMBERS else value for value in np.unique(ids).tolist()}
        values = [value for value, label in labels.items() if self._counts(value, label)]
        classes = [self.things.index(labels[value]) for value in values]
        return one_layer(ids, values, classes, crowd=[value < NUMBERS for value in values])

    def _counts(self, value: int, label: int) -> bool:
        """Return whether an id stands for an object or a crowd, not for background; raise `DatasetError` if unknown."""
        if value and label not in self.things:
            allowed = ", ".join(f"{thing * NUMBERS} to {thing * NUMBERS + NUMBERS - 1}" for thing in self.things[:3])
            more = ", ..." if len(self.things) > 3 else ""
            raise DatasetError(
                f"{self.path}: id {value} is of no class; with several classes ids are {NUMBERS} times the class's "
                f"value and a number: {allowed}{more}; if all objects are of one class, list that one alone"
            )
        return value > 0


@dataclass(frozen=True, eq=False)
class CityscapesIds(ClassIds):
    """Cityscapes' id image: it also has ids of classes without instances."""

    def truth(self, size: tuple[int, int]) -> InstanceTruth:
        """Read the instances and the unchanged ids; boxes are the extents of the masks."""
        instances = self.read(size)
        return replace(measured(instances), instance_ids=instances.ids[0].numpy())

    def _counts(self, value: int, label: int) -> bool:
        return label in self.things


def of_size(values: np.ndarray, size: tuple[int, int], path: Path) -> np.ndarray:
    """Return labels (H, W) or (H, W, C); raise `DatasetError` if they are of another size than the image."""
    if values.shape[:2] != size:
        raise DatasetError(f"{path}: labels are {values.shape[:2]}, the image is {size} (H, W)")
    return values


def _ranges(valid: np.ndarray) -> str:
    """Return the allowed values in short, such as "0 to 11 and 255"."""
    values = np.flatnonzero(valid)
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return " and ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
