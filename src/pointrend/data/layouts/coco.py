"""COCO and LVIS: one JSON file of annotations a split.

The file of a split is `annotations/instances_SPLIT*.json`, `annotations/SPLIT.json` or, as Roboflow exports it,
`SPLIT/_annotations.coco.json`; LVIS's is `annotations/lvis_*_SPLIT*.json`. `pointrend.data.coco_images` says where the
images of a split are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from pointrend.data.annotations import Unlabelled
from pointrend.data.classes import ClassInfo, generate_colors
from pointrend.data.coco_annotations import CocoAnnotations
from pointrend.data.coco_file import read_coco
from pointrend.data.coco_images import SPLITS, ImageFolders
from pointrend.data.finding import Layout
from pointrend.data.json_files import read_json
from pointrend.data.problems import DatasetError
from pointrend.data.samples import Sample, SampleSet

_ROBOFLOW = "_annotations.coco.json"
_YEARS = ("2017", "2014")
_ALIASES = {"val": ("valid", "validation")}
"""Other names of splits, by the tools that write them."""


def has_annotation_files(root: Path) -> bool:
    """Return whether a folder, or a file, may hold annotations."""
    return bool(_files(root))


def splits(root: Path) -> list[str]:
    """Return the names of the splits that have annotation files; none if the root is such a file itself."""
    if root.suffix == ".json":
        return []
    names = [next(iter(_splits_of(path)), "") for path in _files(root) if not path.stem.startswith("lvis_")]
    lvis = [part for path in _files(root) for part in path.stem.split("_") if path.stem.startswith("lvis_")]
    found = [*names, *(part for part in lvis if part in SPLITS)]
    return list(dict.fromkeys(_without_year(name) for name in found if name))


def _without_year(name: str) -> str:
    for year in _YEARS:
        name = name.removesuffix(year)
    return name


def _matches_coco(root: Path, split: str | None) -> bool:
    return has_annotation_files(root) and not _matches_lvis(root, split)


def _matches_lvis(root: Path, split: str | None) -> bool:
    try:
        return bool(_files(root)) and _annotation_file(root, split).name.startswith("lvis")
    except DatasetError:
        return False  # looking for COCO's annotations reports the error


def _files(root: Path) -> list[Path]:
    """Return the files that may hold annotations."""
    if root.suffix == ".json":
        return [root]
    return sorted([*(root / "annotations").glob("*.json"), *root.glob(f"*/{_ROBOFLOW}")])


def _annotation_file(root: Path, split: str | None) -> Path:
    files = _files(root)
    if root.suffix == ".json" or (split is None and len(files) == 1):
        return files[0]
    listed = ", ".join(str(path.relative_to(root)) for path in files) or "none"
    if split is None:
        raise DatasetError(f"{root}: this layout needs a split (--split or split=); annotation files: {listed}")
    for name in (split, *(f"{split}{year}" for year in _YEARS), *_ALIASES.get(split, ())):
        found = [path for path in files if name in _splits_of(path)]
        if len(found) == 1:
            return found[0]
        if found:
            raise DatasetError(f"{root}: several annotation files of split {split!r}: {listed}; keep one")
    raise DatasetError(
        f"{root}: no annotation file of split {split!r} among: {listed}; "
        f"rename it to annotations/instances_{split}.json"
    )


def _splits_of(path: Path) -> tuple[str, ...]:
    """Return the names that a split may have whose annotations are in a file."""
    if path.name == _ROBOFLOW:
        return (path.parent.name,)
    stem = path.stem.removeprefix("instances_")
    if stem.startswith("lvis_"):
        return tuple(stem.split("_"))
    # Other annotations of COCO are beside those of instances.
    return () if stem.startswith(("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")) else (stem,)


def find(root: Path, split: str | None, *, layout: str) -> SampleSet:
    """Find the images of a split and their annotations; raise `DatasetError` if there are none."""
    return _sample_set(_annotation_file(root, split), split, layout=layout)


def find_unlabelled(root: Path, split: str | None, *, layout: str) -> SampleSet | None:
    """Find the images of a file that lists them without annotations: `annotations/image_info_SPLIT*.json`."""
    names = [f"image_info_{split}{year}" for year in ("", *_YEARS)]
    paths = [path for path in _files(root) if path == root or path.stem in names]
    if len(paths) != 1:
        return None
    content = read_json(paths[0])
    if isinstance(content, dict) and content.get("annotations"):
        return None
    return _sample_set(paths[0], split, layout=layout, labelled=False)


def _sample_set(path: Path, split: str | None, *, layout: str, labelled: bool = True) -> SampleSet:
    content = read_coco(path, annotated=labelled)
    folders = ImageFolders(path, tuple(_folder_names(path, split)))
    images_of_class = np.zeros(len(content.class_names), np.int64)
    samples = []
    for image in content.images:
        if not labelled:
            samples.append(Sample(folders.find(image.names), Unlabelled(), image.id))
            continue
        annotations = CocoAnnotations(
            source=path,
            size=image.size,
            objects=image.objects,
            negative=image.negative,
            not_exhaustive=image.not_exhaustive,
        )
        images_of_class[list(set(annotations.classes))] += 1
        samples.append(Sample(folders.find(image.names), annotations, image.id))
    colors = generate_colors(len(content.class_names))
    return SampleSet(
        layout=layout,
        task="instance",
        samples=tuple(samples),
        classes=tuple(ClassInfo(*pair) for pair in zip(content.class_names, colors, strict=True)),
        metrics=("lvis" if layout == "lvis" else "coco", "f1") if labelled else (),
        category_ids=content.category_ids,
        images_of_class=tuple(images_of_class.tolist()) if labelled else (),
        submission="coco",
        frequencies=content.frequencies if layout == "lvis" else (),
    )


def _folder_names(path: Path, split: str | None) -> Iterator[str]:
    """Yield the names that the folder of a split's images may have, most likely first."""
    info = path.stem.removeprefix("image_info_")
    if info != path.stem:  # test-dev2017 is a part of test2017/
        yield from dict.fromkeys((info, info.replace("-dev", "")))
    of_file = [part for part in _splits_of(path) if not part.startswith(("lvis", "v0", "v1", "cocofied"))]
    for name in dict.fromkeys((*of_file, *([split] if split else []))):
        yield name
        yield from (f"{name}{year}" for year in _YEARS)
        yield from _ALIASES.get(name, ())


LAYOUTS = {
    name: Layout(
        "instance",
        partial(find, layout=name),
        matches,
        hint,
        unlabelled=partial(find_unlabelled, layout=name),
        splits=splits,
    )
    for name, matches, hint in (
        ("coco", _matches_coco, "annotations/instances_*.json"),
        ("lvis", _matches_lvis, "annotations/lvis_*.json"),
    )
}
