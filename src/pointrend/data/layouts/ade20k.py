"""ADE20K's scene parsing benchmark: `images/training/` and `annotations/training/`, the same for `validation`."""

from __future__ import annotations

from pathlib import Path

from pointrend.data.classes import ADE20K
from pointrend.data.finding import Layout, folders, image_files, missing_split, pair_labels, without_labels
from pointrend.data.samples import SampleSet


def _matches(root: Path, split: str | None) -> bool:
    return (root / "images" / "training").is_dir() and (root / "annotations" / "training").is_dir()


_FOLDERS = {"train": "training", "val": "validation", "test": "testing"}


def _find(root: Path, split: str | None) -> SampleSet:
    splits = folders(root / "images")
    folder = _FOLDERS.get(split or "", split)
    if folder is None or folder not in splits:
        raise missing_split(root, split, splits)
    return pair_labels(
        "ade20k",
        image_files(root / "images" / folder),
        image_files(root / "annotations" / folder),
        ADE20K,
        # The label value 0 means "no class".
        {train_id + 1: train_id for train_id in range(len(ADE20K))},
        valid=range(len(ADE20K) + 1),
    )


def _splits(root: Path) -> list[str]:
    there = {*folders(root / "images"), *(name for name in folders(root) if name == "testing")}
    return [split for split, folder in _FOLDERS.items() if folder in there]


def _find_unlabelled(root: Path, split: str | None) -> SampleSet | None:
    folder = _FOLDERS.get(split or "", split or "")
    if not folder or (root / "annotations" / folder).exists():
        return None
    # The images of the test split are a download of their own, release_test/testing/.
    there = [path for path in (root / "images" / folder, root / folder) if path.is_dir()]
    return without_labels("ade20k", image_files(there[0]), ADE20K, range(1, len(ADE20K) + 1)) if there else None


LAYOUTS = {
    "ade20k": Layout(
        "semantic",
        _find,
        _matches,
        unlabelled=_find_unlabelled,
        hint="images/training/ and annotations/training/",
        splits=_splits,
    )
}
