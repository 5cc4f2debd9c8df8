"""The building blocks of the layouts in `pointrend.data.layouts`: their description, and functions that find files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pointrend.data.annotations import LabelImage, LabelValues, Unlabelled
from pointrend.data.classes import IGNORE, ClassInfo
from pointrend.data.images import IMAGE_SUFFIXES
from pointrend.data.problems import DatasetError
from pointrend.data.samples import Annotations, Sample, SampleSet


def never(root: Path, split: str | None) -> bool:
    """Return False: the layout must be named to be used."""
    return False


def no_images(root: Path, split: str | None) -> None:
    """Return None: the layout has no splits without labels."""


def folders_with_images(root: Path) -> list[str]:
    """Return the sorted names of the folders in `root` that have a folder `images/` or `labels/`."""
    return [name for name in folders(root) if (root / name / "images").is_dir() or (root / name / "labels").is_dir()]


@dataclass(frozen=True)
class Layout:
    """The way in which a data set's files are arranged."""

    task: str
    find: Callable[[Path, str | None], SampleSet]
    """Finds the files of a split (None: the only one) below a root folder, or raises `DatasetError`."""
    matches: Callable[[Path, str | None], bool] = never
    """Tells whether a folder looks like this layout."""
    hint: str = ""
    """The expected contents of the folder, for the message shown when no layout matches."""
    general: bool = False
    """True if other layouts may have folders of the same names: it is tried after all others."""
    unlabelled: Callable[[Path, str | None], SampleSet | None] = no_images
    """Finds the images of a split that has no labels at all, as benchmarks' test splits; None if there is no such."""
    splits: Callable[[Path], list[str]] = folders_with_images
    """Lists the names of the splits below a root folder; none if the folder is a split itself."""


def pair_labels(
    layout: str,
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    classes: tuple[ClassInfo, ...],
    train_ids: Mapping[int, int],
    *,
    valid: Iterable[int],
) -> SampleSet:
    """Pair images and label images by their keys, for instance their stems.

    Args:
        layout: the layout's name.
        images, labels: the files by key.
        classes: the classes in the order of their train ids.
        train_ids: the train id of each label value; other values are ignored.
        valid: the allowed label values beside `IGNORE`.
    """
    values = LabelValues(lookup=np.full(256, IGNORE, np.uint8), valid=np.zeros(256, np.bool_))
    values.lookup[list(train_ids)] = list(train_ids.values())
    values.valid[[*valid, IGNORE]] = True
    found = pair(layout, images, labels, classes, lambda path: LabelImage(path, values))
    return replace(found, label_values=tuple(sorted(train_ids, key=train_ids.__getitem__)))


def pair(
    layout: str,
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    classes: tuple[ClassInfo, ...],
    annotations: Callable[[Path], Annotations],
) -> SampleSet:
    """Pair images and files of labels of a semantic split by their keys; `annotations` makes those of a file."""
    both = sorted(images.keys() & labels.keys())
    if not both:
        if not images or not labels:
            raise DatasetError(f"the split has {len(images)} images and {len(labels)} labels; nothing to pair")
        image, label = min(images.values()), min(labels.values())
        raise DatasetError(f"no image has labels of the same name, for instance {image} and {label}")
    return SampleSet(
        layout=layout,
        task="semantic",
        samples=tuple(Sample(images[key], annotations(labels[key]), key) for key in both),
        classes=classes,
        metrics=("semantic",),
        unmatched_images=tuple(images[key] for key in sorted(images.keys() - labels.keys())),
        unmatched_labels=tuple(labels[key] for key in sorted(labels.keys() - images.keys())),
    )


def without_labels(
    layout: str, images: Mapping[str, Path], classes: tuple[ClassInfo, ...], label_values: Sequence[int]
) -> SampleSet | None:
    """Return the images of a semantic split, by key, that has no labels; None if there are no images."""
    if not images:
        return None
    return SampleSet(
        layout=layout,
        task="semantic",
        samples=tuple(Sample(images[key], Unlabelled(), key) for key in sorted(images)),
        classes=classes,
        metrics=(),
        label_values=tuple(label_values),
    )


def pair_ids(images: Mapping[str, Path], labels: Mapping[str, Path]) -> list[tuple[str, Path, Path]]:
    """Return (key, image, id image) of every image, sorted; raise `DatasetError` if one has no id image."""
    if without := sorted(images.keys() - labels.keys()):
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        raise DatasetError(f"{images[without[0]]}{more}: no labels of the same name")
    return [(key, images[key], labels[key]) for key in sorted(images)]


def folders(folder: Path) -> list[str]:
    """Return the sorted names of the visible folders in `folder`; an empty list if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def missing_split(root: Path, split: str | None, there: list[str]) -> DatasetError:
    """Return the error for a split that does not exist or was not given."""
    choice = f"found splits: {', '.join(there)}" if there else "found no splits"
    if split is None:
        return DatasetError(f"{root}: this layout needs a split (--split or split=); {choice}")
    return DatasetError(f"{root}: has no split {split!r}; {choice}")


def split_folder(root: Path, split: str | None) -> Path:
    """Return the folder of a split, or the root if `split` is None."""
    folder = root / split if split else root
    if split and not folder.is_dir():
        raise missing_split(root, split, folders(root))
    return folder


def image_files(folder: Path) -> dict[str, Path]:
    """Return the image files directly in `folder`, by stem; hidden files (such as macOS's ._name) are skipped."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise DatasetError(f"{path}: has the same name as {found[path.stem].name}; remove or rename one of them")
        found[path.stem] = path
    if not found:
        raise DatasetError(f"{folder}: no images in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    return found
