"""COCO and LVIS: one JSON file of annotations per split.

COCO has `annotations/instances_SPLIT*.json`, with images in `images/`, `SPLIT2017/`, `SPLIT/` or in the root; LVIS has
`annotations/lvis_*_SPLIT*.json`, with images in the same folders or the one named in their `coco_url`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pointrend.data.annotations import CocoAnnotations
from pointrend.data.classes import ClassInfo, generate_colors
from pointrend.data.finding import Layout
from pointrend.data.problems import DatasetError
from pointrend.data.samples import Sample, SampleSet


def _matches_coco(root: Path, split: str | None) -> bool:
    return _has_annotations(root) and not _matches_lvis(root, split)


def _matches_lvis(root: Path, split: str | None) -> bool:
    try:
        return _has_annotations(root) and _annotation_file(root, split).name.startswith("lvis")
    except DatasetError:
        return False  # looking for COCO's annotations reports the error


def _has_annotations(root: Path) -> bool:
    return root.suffix == ".json" or any((root / "annotations").glob("*.json"))


def _annotation_file(root: Path, split: str | None) -> Path:
    if root.suffix == ".json":
        return root
    there = sorted(p for p in (root / "annotations").glob("*.json") if p.stem.startswith(("instances_", "lvis_")))
    listed = ", ".join(p.name for p in there) or "none"
    if split is None:
        if len(there) == 1:
            return there[0]
        raise DatasetError(f"{root}: this layout needs a split (--split or split=); annotation files: {listed}")
    exact = [p for p in there if p.stem == f"instances_{split}"]
    years = (f"instances_{split}2017", f"instances_{split}2014")
    found = exact or [p for p in there if split in p.stem.removeprefix("instances_").split("_") or p.stem in years]
    if len(found) != 1:
        raise DatasetError(f"{root}: expected one annotation file of split {split!r}, found {len(found)} of: {listed}")
    return found[0]


def _find(root: Path, split: str | None, *, layout: str) -> SampleSet:
    path = _annotation_file(root, split)
    content = _read(path)
    categories = sorted(content["categories"], key=lambda c: int(c["id"]))
    index_of = {int(c["id"]): index for index, c in enumerate(categories)}
    of_image: dict[int, list[Mapping[str, Any]]] = {int(image["id"]): [] for image in content["images"]}
    for annotation in content["annotations"]:
        image_id, category = annotation.get("image_id"), annotation.get("category_id")
        if image_id not in of_image or category not in index_of:
            missing = f"image {image_id}" if image_id not in of_image else f"category {category}"
            raise DatasetError(f"{path}: annotation {annotation.get('id')} is of {missing}, which the file lacks")
        of_image[image_id].append(annotation)
    folders = _image_folders(path, split)
    images_of_class = np.zeros(len(categories), np.int64)
    samples = []
    for image in sorted(content["images"], key=lambda i: int(i["id"])):
        entries = of_image[int(image["id"])]
        annotations = CocoAnnotations(
            source=path,
            size=(int(image["height"]), int(image["width"])),
            annotations=tuple(entries),
            classes=tuple(index_of[entry["category_id"]] for entry in entries),
            negative=_indices(image, "neg_category_ids", index_of),
            not_exhaustive=_indices(image, "not_exhaustive_category_ids", index_of),
        )
        images_of_class[list(set(annotations.classes))] += 1
        samples.append(Sample(_image_path(image, folders), annotations, int(image["id"])))
    if not samples:
        raise DatasetError(f"{path}: lists no images")
    colors = generate_colors(len(categories))
    return SampleSet(
        layout=layout,
        task="instance",
        samples=tuple(samples),
        classes=tuple(ClassInfo(str(c["name"]), color) for c, color in zip(categories, colors, strict=True)),
        metrics=("lvis" if layout == "lvis" else "coco", "f1"),
        category_ids=tuple(int(c["id"]) for c in categories),
        images_of_class=tuple(images_of_class.tolist()),
        frequencies=tuple(str(c.get("frequency", "")) for c in categories) if layout == "lvis" else (),
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a JSON file of annotations, or damaged ({error})") from error
    required = {"images": {"id", "height", "width"}, "annotations": set(), "categories": {"id", "name"}}
    for key, fields in required.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DatasetError(f"{path}: not an annotation file: it has no list {key!r}")
        if not all(isinstance(entry, dict) and fields <= entry.keys() for entry in content[key]):
            needed = f"an object with {', '.join(sorted(fields))}" if fields else "an object"
            raise DatasetError(f"{path}: each entry of {key!r} must be {needed}")
    annotations: Mapping[str, Any] = content
    return annotations


def _indices(image: Mapping[str, Any], key: str, index_of: Mapping[int, int]) -> tuple[int, ...]:
    return tuple(index_of[c] for c in image.get(key, ()) if c in index_of)


def _image_folders(path: Path, split: str | None) -> list[Path]:
    """Return the existing folders that may hold the images, in the order of search."""
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    names = ["images", *([f"{split}2017", split, f"images/{split}2017", f"images/{split}"] if split else [])]
    names += ["train2017", "val2017", "images/train2017", "images/val2017", "."]
    return [folder for folder in (root / n for n in dict.fromkeys(names)) if folder.is_dir()]


def _image_path(image: Mapping[str, Any], folders: Sequence[Path]) -> Path:
    """Return the file of an image; if it does not exist, the path for the checks to report."""
    names = [str(image["file_name"])] if "file_name" in image else []
    if "coco_url" in image:
        parts = str(image["coco_url"]).split("/")[-2:]
        names += ["/".join(parts), parts[-1]]
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return folders[0] / (names[0] if names else f"{int(image['id']):012d}.jpg")


LAYOUTS = {
    "coco": Layout("instance", partial(_find, layout="coco"), _matches_coco, "annotations/instances_*.json"),
    "lvis": Layout("instance", partial(_find, layout="lvis"), _matches_lvis, "annotations/lvis_*.json"),
}
