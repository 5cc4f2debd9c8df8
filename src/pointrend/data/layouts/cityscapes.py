"""Cityscapes: `leftImg8bit/SPLIT/CITY/` and `gtFine/SPLIT/CITY/`, for semantic or instance segmentation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pointrend.data.annotations import CityscapesIds, Unlabelled
from pointrend.data.classes import CITYSCAPES, CITYSCAPES_THINGS
from pointrend.data.finding import Layout, folders, missing_split, pair_ids, pair_labels, without_labels
from pointrend.data.problems import DatasetError
from pointrend.data.samples import Sample, SampleSet

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label id of each train id, from cityscapesScripts; other label ids are ignored."""
THING_IDS = LABEL_IDS[-len(CITYSCAPES_THINGS) :]
"""The label id of each class with instances."""


def _matches(root: Path, split: str | None) -> bool:
    return (root / "leftImg8bit").is_dir()


def _find_classes(root: Path, split: str | None) -> SampleSet:
    images, labels = _files(root, split, "_gtFine_labelIds.png")
    train_ids = {label: train_id for train_id, label in enumerate(LABEL_IDS)}
    return pair_labels("cityscapes", images, labels, CITYSCAPES, train_ids, valid=range(34))


def _find_instances(root: Path, split: str | None) -> SampleSet:
    pairs = pair_ids(*_files(root, split, "_gtFine_instanceIds.png"))
    samples = (Sample(image, CityscapesIds(ids, THING_IDS), key) for key, image, ids in pairs)
    return _instances(samples, ("coco", "f1", "cityscapes"))


def _instances(samples: Iterable[Sample], metrics: tuple[str, ...]) -> SampleSet:
    return SampleSet(
        layout="cityscapes-instances",
        task="instance",
        samples=tuple(samples),
        classes=CITYSCAPES_THINGS,
        metrics=metrics,
        category_ids=THING_IDS,
        submission="cityscapes-instances",
    )


def _files(root: Path, split: str | None, label_end: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the images and the labels of a split by frame: their file names without the ending."""
    splits = folders(root / "leftImg8bit")
    if split is None or split not in splits:
        raise missing_split(root, split, splits)
    images = _by_frame(root / "leftImg8bit" / split, "_leftImg8bit.png")
    return images, _by_frame(root / "gtFine" / split, label_end)


def _by_frame(folder: Path, end: str) -> dict[str, Path]:
    found = [path for path in folder.glob(f"*/*{end}") if not path.name.startswith(".")]
    if not found:
        raise DatasetError(f"{folder}: no files CITY/*{end} in this folder")
    return {path.name.removesuffix(end): path for path in found}


def _images_alone(root: Path, split: str | None) -> dict[str, Path]:
    """Return the images of a split by frame if it has no labels, which the test split has, but void alone."""
    labelled = any((root / "gtFine" / (split or "")).rglob("*.png"))
    return {} if split is None or labelled else _by_frame(root / "leftImg8bit" / split, "_leftImg8bit.png")


def _find_images(root: Path, split: str | None) -> SampleSet | None:
    return without_labels("cityscapes", _images_alone(root, split), CITYSCAPES, LABEL_IDS)


def _find_images_of_instances(root: Path, split: str | None) -> SampleSet | None:
    images = _images_alone(root, split)
    return _instances((Sample(images[key], Unlabelled(), key) for key in sorted(images)), ()) if images else None


def _splits(root: Path) -> list[str]:
    return folders(root / "leftImg8bit")


_HINT = "leftImg8bit/ and gtFine/"
LAYOUTS = {
    "cityscapes": Layout("semantic", _find_classes, _matches, _HINT, unlabelled=_find_images, splits=_splits),
    "cityscapes-instances": Layout(
        "instance", _find_instances, _matches, _HINT, unlabelled=_find_images_of_instances, splits=_splits
    ),
}
