"""What all exports of annotation tools are read into, and checks that they share.

Shapes: H W pixels.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from pointrend.data.classes import Color, named_classes
from pointrend.data.coco_annotations import CocoAnnotations
from pointrend.data.coco_file import CocoObject
from pointrend.data.images import IMAGE_SUFFIXES, image_size
from pointrend.data.painted import PaintedObjects, painted_classes, painted_labels
from pointrend.data.problems import DatasetError
from pointrend.data.samples import Annotations, Sample, SampleSet
from pointrend.data.segmentations import mask_to_rle
from pointrend.errors import printable, shown

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Our names of the splits that exports have."""


@dataclass(frozen=True)
class Category:
    """What objects are of."""

    name: str
    color: Color | None = None
    """As chosen in the tool; None: not stated."""


@dataclass(frozen=True, eq=False)
class ExportImage:
    """An image and the objects drawn in it."""

    file: Path
    size: tuple[int, int]
    """(H, W) that the export states, or else the file's."""
    objects: tuple[CocoObject, ...]
    """`label` is an index of `Export.categories`, segmentations are polygons in pixels, or RLE; crowds are
    regions that count nowhere."""
    split: str = ""
    """Of `SPLITS`, or an empty text where the export has none."""


@dataclass(frozen=True, eq=False)
class Export:
    """The content of an export."""

    source: Path
    """The file or the folder, for messages."""
    categories: tuple[Category, ...]
    images: tuple[ExportImage, ...]
    notes: tuple[str, ...] = ()
    """What was left out or decided."""

    def splits(self, task: str) -> dict[str, SampleSet]:
        """Return the data set of each split that the export has, for a task: "semantic" or "instance".

        Raises:
            DatasetError: there are no images, or the categories do not fit the task.
        """
        if not self.images:
            raise DatasetError(f"{self.source}: lists no images")
        names = [category.name for category in self.categories]
        try:
            named = named_classes(names)
            drawn = painted_classes(names, [one.color for one in self.categories]) if task == "semantic" else named
        except DatasetError as error:
            raise DatasetError(f"{self.source}: {error}") from error
        labels = painted_labels(names)

        def annotations(image: ExportImage) -> Annotations:
            objects = CocoAnnotations(source=self.source, size=image.size, objects=image.objects)
            return PaintedObjects(objects, labels) if task == "semantic" else objects

        return {
            split: SampleSet(
                layout="export",
                task=task,
                samples=tuple(
                    Sample(image.file, annotations(image), image.file.stem)
                    for image in self.images
                    if image.split == split
                ),
                classes=drawn,
                metrics=("semantic",) if task == "semantic" else ("coco", "f1"),
                category_ids=() if task == "semantic" else tuple(range(1, len(names) + 1)),
            )
            for split in dict.fromkeys(image.split for image in self.images)
        }


class Labels:
    """The labels that an export lists; no other may come.

    Args:
        names: in the order of their indices.
        source: the list, for messages.
    """

    def __init__(self, names: Sequence[str], source: str) -> None:
        self._names = list(names)
        self._source = source

    def index(self, name: object, where: str) -> int:
        """Return the index of a label; `where` names the object, for messages.

        Raises:
            DatasetError: it is no text, or not in the list.
        """
        if not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{where}: the label must be a text, got {shown(name)}")
        if name not in self._names:
            near = difflib.get_close_matches(name, self._names, n=1)
            meant = f", did you mean {near[0]!r}?" if near else f": {', '.join(map(printable, self._names[:10]))}"
            raise DatasetError(f"{where}: label {shown(name)} is not in {self._source}{meant}")
        return self._names.index(name)


def drawn_object(name: str, label: int, segmentation: object, *, crowd: bool = False, layer: int = 0) -> CocoObject:
    """Return an object; `name` is for messages, such as "shape 3 (cat)". Bitmaps become RLE, which is smaller."""
    kept = mask_to_rle(segmentation) if isinstance(segmentation, np.ndarray) else segmentation
    return CocoObject(name, label, crowd, kept, None, None, "", layer)


def find_image(root: Path, name: object, places: Sequence[Path], where: str) -> Path:
    """Return the file of an image that an export names.

    Args:
        root: the export's folder, which no path may leave.
        name: as it stands in the export, with slashes or backslashes.
        places: folders that it may be relative to, most likely first.
        where: what names it, for messages.

    Raises:
        DatasetError: it is no text, leaves the folder, does not exist, or is of a kind that data sets do not have.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise DatasetError(f"{where}: the image's name must be a text, got {shown(name)}")
    relative = PurePosixPath(name.replace("\\", "/"))
    if not relative.parts:
        raise DatasetError(f"{where}: the image's name must be that of a file, got {shown(name)}")
    if len(relative.parts[0]) == 2 and relative.parts[0].endswith(":"):
        relative = PurePosixPath("/") / relative
    candidates = [inside(root, place / relative, where) for place in places]
    found = next((path for path in candidates if is_there(path)), None)
    if found is None:
        raise DatasetError(
            f"{where}: no image {printable(str(candidates[0]), length=500)}; put it there, or export with images"
        )
    if found.suffix.lower() not in IMAGE_SUFFIXES:
        raise DatasetError(
            f"{found}: data sets have {', '.join(sorted(IMAGE_SUFFIXES))}; convert the image to one of them"
        )
    return found


def is_there(path: Path, *, folder: bool = False) -> bool:
    """Return whether a file or a folder exists; a name that the system does not allow does not."""
    try:
        return path.is_dir() if folder else path.is_file()
    except OSError:
        return False


def inside(root: Path, path: Path, where: str) -> Path:
    """Return a path without `..`; raise `DatasetError` if it is not below the folder `root`."""
    # By the names alone: links to images elsewhere are the user's own.
    whole, top = (Path(os.path.normpath(one.absolute())) for one in (path, root))
    if not whole.is_relative_to(top):
        raise DatasetError(
            f"{where}: the path {printable(str(path), length=300)} leaves the folder {root}; paths must stay in it"
        )
    return root / whole.relative_to(top)


def stated_size(path: Path, height: int, width: int, where: str) -> tuple[int, int]:
    """Return the size (H, W) that an export states; raise `DatasetError` if the image has another."""
    size = image_size(path)
    if size != (height, width):
        raise DatasetError(f"{where}: states {width} x {height} pixels, {path} has {size[1]} x {size[0]}")
    return size


def single_file(source: Path, pattern: str, what: str, accepts: Callable[[Path], bool]) -> Path | None:
    """Return a source that is a file itself, or the only accepted file in it; None if there is none.

    Raises:
        DatasetError: there are several.
    """
    if source.is_file():
        return source if accepts(source) else None
    found = [path for path in sorted(source.glob(pattern)) if not path.name.startswith(".") and accepts(path)]
    if len(found) > 1:
        raise DatasetError(
            f"{source}: has several files of {what}, {found[0].name} and {found[1].name}; name one of them"
        )
    return found[0] if found else None
