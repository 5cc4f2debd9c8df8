"""Label images in colours: `images/` and `labels/`, or `JPEGImages/` and `SegmentationClass/` with a `labelmap.txt`.

The latter is what CVAT ("Segmentation mask") and Datumaro export; a split is a list `ImageSets/Segmentation/SPLIT.txt`,
and `SegmentationObject/` has a colour for each object.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pointrend.data.classes import CLASSES_FILE
from pointrend.data.color_labels import ColorLabels, ColorObjects, has_colors
from pointrend.data.color_table import LABELMAP_FILE, ColorTable, find_color_table, read_labelmap
from pointrend.data.finding import Layout, image_files, missing_split, pair, pair_ids, split_folder
from pointrend.data.layouts.voc import LISTS, listed
from pointrend.data.problems import DatasetError
from pointrend.data.samples import Sample, SampleSet


def _matches_folders(root: Path, split: str | None) -> bool:
    folder = root / split if split else root
    if not ((folder / "images").is_dir() and (folder / "labels").is_dir()):
        return False
    first = next(iter(sorted((folder / "labels").glob("*.png"))), None)
    return first is not None and has_colors(first)


def _find_folders(root: Path, split: str | None) -> SampleSet:
    folder = split_folder(root, split)
    table = find_color_table(folder)
    if table is None:
        raise DatasetError(
            f"{folder}: label images are in colours, but no {CLASSES_FILE} there or in {folder.resolve().parent} says "
            f'which; write one such as [{{"name": "background", "color": [0, 0, 0]}}, {{"name": "cat", "color": '
            f"[255, 0, 0]}}], or a {LABELMAP_FILE} of lines such as cat:255,0,0::"
        )
    return _labelled("colors", image_files(folder / "images"), image_files(folder / "labels"), table)


def _matches_labelmap(root: Path, split: str | None) -> bool:
    return (root / LABELMAP_FILE).is_file() and (root / "SegmentationClass").is_dir()


def _find_labelmap(root: Path, split: str | None) -> SampleSet:
    return _labelled("labelmap", *_files(root, split, "SegmentationClass"), read_labelmap(root / LABELMAP_FILE))


def _find_objects(root: Path, split: str | None) -> SampleSet:
    images, labels = _files(root, split, "SegmentationClass")
    _, objects = _files(root, split, "SegmentationObject")
    table = read_labelmap(root / LABELMAP_FILE)
    things = tuple(index for index, info in enumerate(table.counted) if info.name.lower() != "background")
    return SampleSet(
        layout="labelmap-instances",
        task="instance",
        samples=tuple(
            Sample(image, ColorObjects(ColorLabels(labels[key], table), objects[key], things), key)
            for key, image, _ in pair_ids(images, {key: labels[key] for key in labels.keys() & objects.keys()})
        ),
        classes=tuple(table.counted[index] for index in things),
        metrics=("coco", "f1"),
        category_ids=tuple(range(1, len(things) + 1)),
        submission="coco",
    )


def _labelled(layout: str, images: Mapping[str, Path], labels: Mapping[str, Path], table: ColorTable) -> SampleSet:
    return pair(layout, images, labels, table.counted, lambda path: ColorLabels(path, table))


def _files(root: Path, split: str | None, folder: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the images and the files of a folder by name, those of a split if there are lists of splits."""
    if not (root / "JPEGImages").is_dir():
        raise DatasetError(f"{root / 'JPEGImages'}: no such folder; export with the images ('Save images' in CVAT)")
    images, labels = image_files(root / "JPEGImages"), image_files(root / folder)
    there = _splits(root)
    if split is None and len(there) < 2:
        return images, labels
    if split not in there:
        raise missing_split(root, split, there)
    wanted = listed([root / LISTS / f"{split}.txt"])
    of_split = [{key: path for key, path in files.items() if key in wanted} for files in (images, labels)]
    return of_split[0], of_split[1]


def _splits(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / LISTS).glob("*.txt"))


_HINT = f"{LABELMAP_FILE}, JPEGImages/ and SegmentationClass/"
LAYOUTS = {
    "colors": Layout(
        "semantic", _find_folders, _matches_folders, "images/ and labels/ in the colours of classes", general=True
    ),
    "labelmap": Layout("semantic", _find_labelmap, _matches_labelmap, _HINT, splits=_splits),
    "labelmap-instances": Layout(
        "instance", _find_objects, _matches_labelmap, f"{_HINT} and SegmentationObject/", splits=_splits
    ),
}
