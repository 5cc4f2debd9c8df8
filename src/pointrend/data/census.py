"""Count what a split shows, and refuse splits that nothing can be learned from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from pointrend.data.annotations import ONE_ID_IN_PARTS, ONLY_ID_255, OTHER_VALUES
from pointrend.data.classes import CLASSES_FILE, IGNORE
from pointrend.data.problems import DatasetError
from pointrend.data.samples import Inspection, SampleSet

NAMED = 5
"""The number of classes that a message names."""


@dataclass(eq=False)
class Census:
    """The contents of a split, from the inspections of its images."""

    samples: SampleSet
    totals: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """The pixels of each train id, or the objects of each class; see `counts`."""
    images: int = 0
    """Inspected images that can be used."""
    read: int = 0
    """Images of which pixels were looked at."""
    empty: int = 0
    """Images without objects, in instance data sets."""
    decoded: int = 0
    """Objects of the images that were read."""
    hollow: int = 0
    """Those of them without pixels."""
    strays: int = 0
    """Polygons of one or two points that were left out."""
    marks: Counter[str] = field(default_factory=Counter)
    """Images with each peculiarity of `pointrend.data.annotations`."""

    def add(self, found: Inspection) -> None:
        """Count one usable image."""
        self.images += 1
        self.read += found.read
        self.hollow += found.hollow
        self.strays += found.strays
        self.marks.update(found.marks)
        if found.counts is None:
            return
        longest = max(len(self.totals), len(found.counts))
        self.decoded += int(found.counts.sum()) if found.read and self.unit == "objects" else 0
        total = np.zeros(longest, np.int64)
        total[: len(self.totals)] = self.totals
        total[: len(found.counts)] += found.counts.astype(np.int64)
        self.totals = total
        self.empty += not found.counts.any()

    @property
    def unit(self) -> str:
        """What `counts` counts."""
        return "pixels" if self.samples.task == "semantic" else "objects"

    @property
    def counts(self) -> np.ndarray:
        """The number of pixels of each class, or of its objects without crowds: (C,)."""
        counts = np.zeros(len(self.samples.classes), np.int64)
        known = self.totals[: len(counts)]
        counts[: len(known)] = known
        return counts

    @property
    def ignored(self) -> int:
        """The number of ignored pixels, in semantic data sets."""
        return int(self.totals[IGNORE]) if self.unit == "pixels" and len(self.totals) > IGNORE else 0

    @property
    def complete(self) -> bool:
        """Whether `counts` is of all images, not of evenly spaced ones."""
        return bool(self.samples.images_of_class) or self.read == self.images

    def missing(self) -> list[str]:
        """Return the names of the classes that occur nowhere."""
        return [name for name, count in zip(self.samples.class_names, self.counts, strict=True) if not count]


def ensure_learnable(name: str, census: Census, *, allow_empty_classes: bool = False) -> None:
    """Raise `DatasetError` if a split shows nothing, or lacks a class, or if its masks mean something else.

    Args:
        name: of the split, for messages.
        census: of the split.
        allow_empty_classes: whether classes may occur nowhere.
    """
    missing, total = census.missing(), int(census.counts.sum())
    if missing and census.ignored and not census.marks[OTHER_VALUES] and not allow_empty_classes:
        example = f'{{"name": "{missing[-1]}", "value": 255}}'
        raise DatasetError(
            f"{name}: its label images hold only 0 and 255, and 255 means ignored, so that {missing[-1]!r} occurs "
            f"nowhere; if 255 is {missing[-1]!r}, write {example} in {CLASSES_FILE} instead of its name"
        )
    if not total:
        raise DatasetError(f"{name}: {_nothing(census)}")
    if census.hollow and census.hollow >= census.decoded:
        raise DatasetError(
            f"{name}: none of its {census.decoded} objects has a pixel: their segmentations are empty, and boxes alone "
            "do not train masks"
        )
    with_objects = census.read - census.empty
    if census.marks[ONLY_ID_255] == with_objects and 2 * census.marks[ONE_ID_IN_PARTS] > with_objects:
        raise DatasetError(
            f"{name}: its id images hold one number, 255, for separate blobs, as masks do; every object needs a number "
            "of its own (skimage.measure.label gives them), or train a semantic recipe on the masks"
        )
    if missing and not allow_empty_classes and census.complete:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise DatasetError(
            f"{name}: no image shows {', '.join(map(repr, missing[:NAMED]))}{more}; correct the labels or the list of "
            "classes, or allow it with --allow-empty-classes (data.allow_empty_classes)"
        )


def remarks(name: str, census: Census) -> list[str]:
    """Return a line for each thing about a split that does no harm, but that its owner should know."""
    lines = []
    if census.unit == "objects" and census.empty:
        lines.append(f"{census.empty} of {census.images} images of {name} show no object")
    if census.hollow:
        lines.append(f"{census.hollow} objects of {name} have no pixel and are left out: their segmentations are empty")
    if census.strays:
        lines.append(f"{census.strays} polygons of {name} have only one or two points and are left out")
    if 2 * census.marks[ONE_ID_IN_PARTS] > census.read - census.empty > 0:
        lines.append(
            f"most id images of {name} hold one number for separate blobs, which count as one object; "
            "every object needs a number of its own"
        )
    return lines


def _nothing(census: Census) -> str:
    if census.unit == "pixels":
        return f"every pixel of its label images is ignored (value {IGNORE}, or of an ignored class): nothing to learn"
    if census.samples.images_of_class:
        return "its annotation file has no annotations of objects (crowds do not count): nothing to learn"
    return f"all ids of its {census.read} id images are 0, which is the background: nothing to learn"
