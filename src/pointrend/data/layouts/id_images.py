"""Folders `images/` and `labels/`, paired by stem, where labels are id images.

Of one class, ids are any numbers. Of several, `classes.json` lists the background first, as for label images, and an
object's id is 1000 times its class's value and a number, as in Cityscapes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pointrend.data.annotations import NUMBERS, ClassIds, IdImage
from pointrend.data.classes import ClassInfo, ClassList, generate_colors, read_classes
from pointrend.data.finding import Layout, image_files, pair_ids, split_folder
from pointrend.data.problems import DatasetError
from pointrend.data.samples import Sample, SampleSet


def _matches(root: Path, split: str | None) -> bool:
    folder = root / split if split else root
    return (folder / "images").is_dir() and (folder / "labels").is_dir()


def _find(root: Path, split: str | None, *, layout: str, default: str, several: bool = False) -> SampleSet:
    """Find the files of a split; `default` is the class's name if there is no classes.json."""
    folder = split_folder(root, split)
    images, labels = image_files(folder / "images"), image_files(folder / "labels")
    described = read_classes(folder)
    classes = described.classes if described else (ClassInfo(name=default, color=generate_colors(1)[0]),)
    things: tuple[int, ...] = ()
    if len(classes) != 1 and described and several:
        classes, things = _things(described, folder)
    elif len(classes) != 1:
        raise DatasetError(f"{folder}: layout {layout} supports one class, classes.json lists {len(classes)}")
    return SampleSet(
        layout=layout,
        task="instance",
        samples=tuple(
            Sample(image, ClassIds(ids, things) if things else IdImage(ids), key)
            for key, image, ids in pair_ids(images, labels)
        ),
        classes=classes,
        metrics=("coco", "f1"),
        category_ids=things or (1,),
        submission="coco",
    )


def _things(described: ClassList, folder: Path) -> tuple[tuple[ClassInfo, ...], tuple[int, ...]]:
    """Return the classes with instances and their values."""
    (background, value), *others = zip(described.classes, described.values, strict=True)
    if background.name.lower() != "background" or value:
        raise DatasetError(
            f"{folder}: classes.json lists {len(described.classes)} classes of id images, so the first must be "
            f"'background' (value 0), got {background.name!r}; ids of the second are then {NUMBERS} to "
            f"{2 * NUMBERS - 1}"
        )
    counted = [(info, value) for info, value in others if not info.ignore]
    if not counted:
        raise DatasetError(f"{folder}: classes.json lists no class with objects beside the background")
    return tuple(info for info, _ in counted), tuple(value for _, value in counted)


LAYOUTS = {
    "nuclei": Layout("instance", partial(_find, layout="nuclei", default="nucleus")),
    "instance-ids": Layout(
        "instance",
        partial(_find, layout="instance-ids", default="object", several=True),
        _matches,
        "images/ and labels/ with an id for each object",
        general=True,
    ),
}
