"""Instances in images of ids: one number an object, as microscopy and Cityscapes have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointrend.data.classes import CITYSCAPES, CITYSCAPES_LABEL_IDS, ClassInfo, generate_colors, read_classes
from pointrend.data.images import read_ids
from pointrend.data.instance_sets import InstanceMasks, InstanceSample, InstanceSet
from pointrend.data.layouts import by_stem, folders, image_files, missing_split, nested

THINGS = tuple(zip(CITYSCAPES_LABEL_IDS, CITYSCAPES, strict=True))[-8:]
"""Label id and class of what Cityscapes counts: person, rider, car, truck, bus, train, motorcycle, bicycle."""


@dataclass(frozen=True)
class IdImage:
    """A label image in which every object has its own number, and nothing has 0."""

    path: Path

    def read(self, size: tuple[int, int]) -> InstanceMasks:
        """The instances of the image, all of one class. Pixels of one number are one object wherever they lie."""
        ids = _read(self.path, size)
        found = np.unique(ids)
        found = found[found > 0].astype(np.int32)
        zeros = np.zeros(len(found), np.int64)
        return InstanceMasks(ids[None], found, layers=zeros, classes=zeros, crowd=zeros.astype(bool))


@dataclass(frozen=True)
class CityscapesIds:
    """Cityscapes' label image: an object is its class's label id times 1000 and a number, a label id alone a group."""

    path: Path

    def read(self, size: tuple[int, int]) -> InstanceMasks:
        """The instances of the eight classes that count; groups are crowds."""
        ids = _read(self.path, size)
        index_of = {label: index for index, (label, _) in enumerate(THINGS)}
        found, classes, crowd = [], [], []
        for value in np.unique(ids).tolist():
            label = value // 1000 if value >= 1000 else value
            if label in index_of:
                found.append(value)
                classes.append(index_of[label])
                crowd.append(value < 1000)
        return InstanceMasks(
            ids[None],
            np.array(found, np.int32),
            layers=np.zeros(len(found), np.int64),
            classes=np.array(classes, np.int64),
            crowd=np.array(crowd, bool),
        )


def find_nuclei(root: Path, split: str | None) -> InstanceSet:
    """`images/` and `labels/`, paired by stem; every object is a nucleus."""
    return _find(root, split, name="nuclei", default="nucleus")


def find_instance_ids(root: Path, split: str | None) -> InstanceSet:
    """`images/` and `labels/`, paired by stem; objects are of the one class in classes.json, or called "object"."""
    return _find(root, split, name="instance-ids", default="object")


def find_cityscapes_instances(root: Path, split: str | None) -> InstanceSet:
    """Cityscapes' own folders: `leftImg8bit/SPLIT/CITY/` and `gtFine/SPLIT/CITY/`."""
    image_end, label_end = "_leftImg8bit.png", "_gtFine_instanceIds.png"
    splits = folders(root / "leftImg8bit")
    if split not in splits:
        raise missing_split(root, split, splits)
    images = {path.name.removesuffix(image_end): path for path in nested(root / "leftImg8bit" / split, image_end)}
    labels = {path.name.removesuffix(label_end): path for path in nested(root / "gtFine" / split, label_end)}
    return InstanceSet(
        name="cityscapes-instances",
        samples=tuple(
            InstanceSample(images[stem], CityscapesIds(labels[stem]), stem) for stem in _paired(images, labels)
        ),
        classes=tuple(info for _, info in THINGS),
        category_ids=tuple(label for label, _ in THINGS),
    )


def _find(root: Path, split: str | None, *, name: str, default: str) -> InstanceSet:
    folder = root / split if split else root
    if not folder.is_dir():
        raise missing_split(root, split, folders(root))
    images, labels = by_stem(image_files(folder / "images")), by_stem(image_files(folder / "labels"))
    classes = read_classes(folder) or (ClassInfo(name=default, color=generate_colors(1)[0]),)
    if len(classes) != 1:
        raise ValueError(
            f"{folder}: images of ids tell no classes apart, but classes.json has {len(classes)}; give one"
        )
    return InstanceSet(
        name=name,
        samples=tuple(InstanceSample(images[stem], IdImage(labels[stem]), stem) for stem in _paired(images, labels)),
        classes=classes,
        category_ids=(1,),
    )


def _paired(images: dict[str, Path], labels: dict[str, Path]) -> list[str]:
    if without := sorted(images.keys() - labels.keys()):
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        raise ValueError(f"{images[without[0]]}{more}: no labels of the same name")
    return sorted(images)


def _read(path: Path, size: tuple[int, int]) -> np.ndarray:
    ids = read_ids(path)
    if ids.shape != size:
        raise ValueError(f"{path}: labels are {ids.shape}, the image is {size} (H, W)")
    return ids
