"""Finding the images and labels of a data set, and what its label values mean."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pointrend.data.classes import (
    ADE20K,
    CAMVID,
    CITYSCAPES,
    CITYSCAPES_LABEL_IDS,
    CLASSES_FILE,
    EXAMPLE,
    IGNORE,
    VOC,
    ClassInfo,
    read_classes,
)
from pointrend.data.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Sample:
    """An image and its labels."""

    image: Path
    label: Path


@dataclass(frozen=True, eq=False)
class SampleSet:
    """One split of a data set.

    Args:
        name: the layout's name.
        samples: pairs of files, sorted.
        classes: the classes that count, in the order of their train ids.
        lookup: (256,) uint8, raw label value -> train id or `IGNORE`.
        valid: (256,) bool, the raw label values that may occur.
        unmatched_images: images without labels.
        unmatched_labels: labels without an image.
    """

    name: str
    samples: tuple[Sample, ...]
    classes: tuple[ClassInfo, ...]
    lookup: np.ndarray
    valid: np.ndarray
    unmatched_images: tuple[Path, ...] = field(default=())
    unmatched_labels: tuple[Path, ...] = field(default=())


def find_samples(root: Path, *, layout: str | None = None, split: str | None = None) -> SampleSet:
    """Finds the files of one split.

    In the layouts folder, camvid and people a split is a folder with `images/` and `labels/`: `root /
    split`, or `root` itself if `split` is None. In cityscapes, ade20k and voc, `root` is the data set's own
    folder and `split` is needed.

    Args:
        root: the data set's folder.
        layout: one of `LAYOUTS`; None or "auto" looks at the folders' names.
        split: for instance "train" or "val".

    Raises:
        ValueError: unknown layout, missing or empty folders, no or a bad `classes.json` where one is needed.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
    if layout is None or layout == "auto":
        layout = _detect(root, split)
    if layout not in LAYOUTS:
        near = difflib.get_close_matches(layout, LAYOUTS, n=1, cutoff=0)
        raise ValueError(f"unknown layout {layout!r}, did you mean {near[0]!r}? Layouts are auto, {', '.join(LAYOUTS)}")
    return LAYOUTS[layout](root, split)


def _detect(root: Path, split: str | None) -> str:
    if (root / "leftImg8bit").is_dir():
        return "cityscapes"
    if (root / "JPEGImages").is_dir() and (root / "SegmentationClass").is_dir():
        return "voc"
    if (root / "images" / "training").is_dir() and (root / "annotations" / "training").is_dir():
        return "ade20k"
    folder = root / split if split else root
    if (folder / "images").is_dir() or (folder / "labels").is_dir():
        return "folder"
    if split and not folder.is_dir():
        raise missing_split(root, split, folders(root))
    splits = [name for name in folders(root) if (root / name / "images").is_dir()]
    if splits and not split:
        raise ValueError(f"{root}: holds several splits, give one of them: {', '.join(splits)}")
    raise ValueError(
        f"{folder}: no data set found; expected images/ and labels/ (folder), leftImg8bit/ and gtFine/"
        " (cityscapes), images/training/ and annotations/training/ (ade20k)"
        " or JPEGImages/ and SegmentationClass/ (voc)"
    )


def _folder(root: Path, split: str | None) -> SampleSet:
    return _find_folder(root, split, name="folder", classes=None)


def _people(root: Path, split: str | None) -> SampleSet:
    return _find_folder(root, split, name="people", classes=None)


def _camvid(root: Path, split: str | None) -> SampleSet:
    return _find_folder(root, split, name="camvid", classes=CAMVID)


def _find_folder(root: Path, split: str | None, *, name: str, classes: Sequence[ClassInfo] | None) -> SampleSet:
    """`images/` and `labels/`, paired by stem; label values index `classes`, or those of classes.json."""
    folder = root / split if split else root
    if split and not folder.is_dir():
        raise missing_split(root, split, folders(root))
    images = by_stem(image_files(folder / "images"))
    labels = by_stem(image_files(folder / "labels"))
    if classes is None:
        classes = read_classes(folder)
    if classes is None:
        raise ValueError(
            f"{folder}: no {CLASSES_FILE} there or in {folder.resolve().parent}; write one that lists"
            f" the classes in the order of the label values, such as {EXAMPLE}"
        )
    lookup = np.full(256, IGNORE, np.uint8)
    counted = [value for value, info in enumerate(classes) if not info.ignore]
    lookup[counted] = np.arange(len(counted))
    return _pair(name, images, labels, tuple(classes[value] for value in counted), lookup, valid=range(len(classes)))


def _cityscapes(root: Path, split: str | None) -> SampleSet:
    image_end, label_end = "_leftImg8bit.png", "_gtFine_labelIds.png"
    splits = folders(root / "leftImg8bit")
    if split not in splits:
        raise missing_split(root, split, splits)
    images = {path.name.removesuffix(image_end): path for path in nested(root / "leftImg8bit" / split, image_end)}
    labels = {path.name.removesuffix(label_end): path for path in nested(root / "gtFine" / split, label_end)}
    lookup = np.full(256, IGNORE, np.uint8)
    lookup[list(CITYSCAPES_LABEL_IDS)] = np.arange(len(CITYSCAPES))
    return _pair("cityscapes", images, labels, CITYSCAPES, lookup, valid=range(34))


def _ade20k(root: Path, split: str | None) -> SampleSet:
    splits = folders(root / "images")
    own_name = {"train": "training", "val": "validation"}.get(split or "", split)
    if own_name not in splits:
        raise missing_split(root, split, splits)
    images = by_stem(image_files(root / "images" / own_name))
    labels = by_stem(image_files(root / "annotations" / own_name))
    lookup = np.full(256, IGNORE, np.uint8)
    lookup[1 : len(ADE20K) + 1] = np.arange(len(ADE20K))
    return _pair("ade20k", images, labels, ADE20K, lookup, valid=range(len(ADE20K) + 1))


def _voc(root: Path, split: str | None) -> SampleSet:
    lists = root / "ImageSets" / "Segmentation"
    splits = sorted(path.stem for path in lists.glob("*.txt"))
    if split not in splits:
        raise missing_split(root, split, splits)
    stems = (lists / f"{split}.txt").read_text(encoding="utf-8").split()
    wanted = set(stems)
    images = {s: path for s, path in by_stem(image_files(root / "JPEGImages")).items() if s in wanted}
    labels = {s: path for s, path in by_stem(image_files(root / "SegmentationClass")).items() if s in wanted}
    if nowhere := sorted(wanted - images.keys() - labels.keys()):
        more = f" and {len(nowhere) - 1} more" if len(nowhere) > 1 else ""
        raise ValueError(f"{lists / f'{split}.txt'}: {nowhere[0]}{more} listed, but neither image nor label is there")
    lookup = np.full(256, IGNORE, np.uint8)
    lookup[: len(VOC)] = np.arange(len(VOC))
    return _pair("voc", images, labels, VOC, lookup, valid=range(len(VOC)))


LAYOUTS: dict[str, Callable[[Path, str | None], SampleSet]] = {
    "folder": _folder,
    "camvid": _camvid,
    "people": _people,
    "cityscapes": _cityscapes,
    "ade20k": _ade20k,
    "voc": _voc,
}


def _pair(
    name: str,
    images: dict[str, Path],
    labels: dict[str, Path],
    classes: tuple[ClassInfo, ...],
    lookup: np.ndarray,
    *,
    valid: Iterable[int],
) -> SampleSet:
    both = sorted(images.keys() & labels.keys())
    if not both:
        if not images or not labels:
            raise ValueError(f"the split has {len(images)} images and {len(labels)} labels; nothing to pair")
        image, label = min(images.values()), min(labels.values())
        raise ValueError(f"no image has labels of the same name, for instance {image} and {label}")
    allowed = np.zeros(256, np.bool_)
    allowed[[*valid, IGNORE]] = True
    return SampleSet(
        name=name,
        samples=tuple(Sample(images[stem], labels[stem]) for stem in both),
        classes=classes,
        lookup=lookup,
        valid=allowed,
        unmatched_images=tuple(images[stem] for stem in sorted(images.keys() - labels.keys())),
        unmatched_labels=tuple(labels[stem] for stem in sorted(labels.keys() - images.keys())),
    )


def folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def missing_split(root: Path, split: str | None, there: list[str]) -> ValueError:
    choice = f"there are: {', '.join(there)}" if there else "there are none"
    if split is None:
        return ValueError(f"{root}: this layout needs the name of a split; {choice}")
    return ValueError(f"{root}: has no split {split!r}; {choice}")


def image_files(folder: Path) -> list[Path]:
    """The image files directly in `folder`; hidden ones (macOS leaves ._name files behind) are skipped."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    found = [
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    if not found:
        raise ValueError(f"{folder}: no images in there; known are {', '.join(sorted(IMAGE_SUFFIXES))}")
    return found


def nested(folder: Path, end: str) -> list[Path]:
    """Files `folder`/CITY/*`end`."""
    found = [path for path in folder.glob(f"*/*{end}") if not path.name.startswith(".")]
    if not found:
        raise ValueError(f"{folder}: no files CITY/*{end} in there")
    return found


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    by_stem: dict[str, Path] = {}
    for path in sorted(paths):
        if path.stem in by_stem:
            raise ValueError(f"{path}: has the same name as {by_stem[path.stem].name}; only one of them can be meant")
        by_stem[path.stem] = path
    return by_stem
