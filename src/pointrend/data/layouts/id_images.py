"""Folders `images/` and `labels/`, paired by stem, where labels are id images of objects of one class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pointrend.data.annotations import IdImage
from pointrend.data.classes import ClassInfo, generate_colors, read_classes
from pointrend.data.finding import Layout, image_files, pair_ids, split_folder
from pointrend.data.problems import DatasetError
from pointrend.data.samples import Sample, SampleSet


def _matches(root: Path, split: str | None) -> bool:
    folder = root / split if split else root
    return (folder / "images").is_dir() and (folder / "labels").is_dir()


def _find(root: Path, split: str | None, *, layout: str, default: str) -> SampleSet:
    """Find the files of a split; `default` is the class's name if there is no classes.json."""
    folder = split_folder(root, split)
    images, labels = image_files(folder / "images"), image_files(folder / "labels")
    described = read_classes(folder)
    classes = described.classes if described else (ClassInfo(name=default, color=generate_colors(1)[0]),)
    if len(classes) != 1:
        raise DatasetError(f"{folder}: layout {layout} supports one class, classes.json lists {len(classes)}")
    return SampleSet(
        layout=layout,
        task="instance",
        samples=tuple(Sample(image, IdImage(ids), key) for key, image, ids in pair_ids(images, labels)),
        classes=classes,
        metrics=("coco", "f1"),
        category_ids=(1,),
        submission="coco",
    )


LAYOUTS = {
    "nuclei": Layout("instance", partial(_find, layout="nuclei", default="nucleus")),
    "instance-ids": Layout(
        "instance",
        partial(_find, layout="instance-ids", default="object"),
        _matches,
        "images/ and labels/ with an id for each object",
        general=True,
    ),
}
