"""Folders `images/` and `labels/`, paired by stem: label values are indices of classes.json, or of CamVid's classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pointrend.data.classes import CAMVID, CLASSES_FILE, EXAMPLE, ClassInfo, ClassList, read_classes
from pointrend.data.finding import Layout, image_files, pair_labels, split_folder
from pointrend.data.images import DEEP_MODES, opened
from pointrend.data.problems import DatasetError
from pointrend.data.samples import SampleSet


def _matches(root: Path, split: str | None) -> bool:
    folder = root / split if split else root
    return (folder / "images").is_dir() or (folder / "labels").is_dir()


def _find(root: Path, split: str | None, *, layout: str, classes: tuple[ClassInfo, ...] | None = None) -> SampleSet:
    folder = split_folder(root, split)
    images, labels = image_files(folder / "images"), image_files(folder / "labels")
    described = (
        ClassList(classes, tuple(range(len(classes))), (True,) * len(classes)) if classes else read_classes(folder)
    )
    if described is None:
        deep = ""
        if _is_deep(min(labels.values())):
            deep = "; its label images have more than 8 bits, as ids of objects have: those are of the task instance"
        raise DatasetError(
            f"{folder}: no {CLASSES_FILE} there or in {folder.resolve().parent}; write one that lists"
            f" the classes in the order of the label values, such as {EXAMPLE}{deep}"
        )
    counted = [
        (info, value) for info, value in zip(described.classes, described.values, strict=True) if not info.ignore
    ]
    train_ids = {value: train_id for train_id, (_, value) in enumerate(counted)}
    return pair_labels(layout, images, labels, tuple(info for info, _ in counted), train_ids, valid=described.values)


def _is_deep(path: Path) -> bool:
    with opened(path) as image:
        return image.mode in DEEP_MODES


LAYOUTS = {
    "folder": Layout("semantic", partial(_find, layout="folder"), _matches, "images/ and labels/", general=True),
    "camvid": Layout("semantic", partial(_find, layout="camvid", classes=CAMVID)),
    "people": Layout("semantic", partial(_find, layout="people")),
}
