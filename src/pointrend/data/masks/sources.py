"""The sources that a recipe names, by kind: one row each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pointrend.data.images import PHOTO_SUFFIXES
from pointrend.data.masks.scenes import CocoObjects, Cutouts, Labelled, Photos, Shapes, Source, coco_labelled
from pointrend.data.masks.windows import MaskWindows
from pointrend.data.problems import DatasetError
from pointrend.data.settings import InputSpec, MaskAugment, MaskDataSettings, MaskSource


def mask_windows(data: MaskDataSettings, augment: MaskAugment, input: InputSpec, root: Path) -> MaskWindows:
    """Return the windows of a training.

    Args:
        data: what they are drawn from.
        augment: their size.
        input: how images are normalised.
        root: the folder that the sources' paths are below.

    Raises:
        DatasetError: there is no source, a folder is missing or has no files of its kind, or there are no backgrounds.
    """
    if not data.sources:
        raise DatasetError("data.sources: a refiner learns from at least one source, and the recipe names none")
    repeated = [path for folder, times in data.photos.items() for path in _files(root / folder) * times]
    for source in data.sources:
        if source.images and source.backgrounds and source.kind not in ("cutouts", "shapes"):
            repeated += images_of(source, root)
    photos = Photos(repeated)
    if not repeated and any(source.kind in ("cutouts", "shapes") for source in data.sources):
        raise DatasetError("data.photos: cut-outs and shapes need photographs to lie on; name a folder")
    sources = tuple(BUILDERS[source.kind](source, root, photos) for source in data.sources)
    shares = tuple(source.share for source in data.sources)
    return MaskWindows(sources, shares, augment.window, augment.context, augment.clean, input)


def images_of(source: MaskSource, root: Path) -> list[Path]:
    """Return the images of a source that have masks."""
    if source.kind == "coco":
        return [path for path, _ in coco_labelled(root / source.images, root / source.masks)]
    return [image for image, _ in _pairs(source, root)]


def _pairs(source: MaskSource, root: Path) -> list[tuple[Path, Path]]:
    """Return the images of a source, each with the mask whose file has the same name without its ending."""
    masks = {path.stem: path for path in _files(root / source.masks)}
    images = _files(root / source.images)
    pairs = [(image, masks[image.stem]) for image in images if image.stem in masks]
    if not pairs:
        raise DatasetError(f"{root / source.masks}: no mask has the name of an image in {root / source.images}")
    return pairs


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; the recipe's data section names it")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not found:
        raise DatasetError(f"{folder}: no images in this folder")
    return found


def _labelled(source: MaskSource, root: Path, photos: Photos) -> Source:
    soft = None if source.soft is None else root / source.soft
    instances = source.kind == "ids"
    return Labelled(_pairs(source, root), soft, source.margin, instances, binary=source.kind == "pairs")


def _coco(source: MaskSource, root: Path, photos: Photos) -> Source:
    found = coco_labelled(root / source.images, root / source.masks)
    if not found:
        raise DatasetError(f"{root / source.masks}: no image has an object that is large enough to learn from")
    return CocoObjects(found, source.margin)


def _cutouts(source: MaskSource, root: Path, photos: Photos) -> Source:
    folders = [root / name.strip() for name in source.images.split(",")]
    return Cutouts([_files(folder) for folder in folders], photos)


BUILDERS: dict[str, Callable[[MaskSource, Path, Photos], Source]] = {
    "pairs": _labelled,
    "labels": _labelled,
    "ids": _labelled,
    "coco": _coco,
    "cutouts": _cutouts,
    "shapes": lambda source, root, photos: Shapes(photos),
}
"""Builds a source from its settings."""
