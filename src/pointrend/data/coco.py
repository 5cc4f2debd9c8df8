"""COCO's and LVIS's annotation files, read with the standard library: one JSON for a split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pointrend.data.classes import ClassInfo, generate_colors
from pointrend.data.instance_sets import InstanceMasks, InstanceSample, InstanceSet, pack
from pointrend.data.segmentations import to_mask


@dataclass(frozen=True, eq=False)
class CocoAnnotations:
    """The annotations of one image."""

    source: Path
    """The file they come from, for messages."""
    size: tuple[int, int]
    """(H, W) of the image, as the file says."""
    annotations: tuple[Mapping[str, Any], ...]
    """As in the file."""
    classes: tuple[int, ...]
    """The class index of each."""
    negative: tuple[int, ...] = ()
    """LVIS: classes that are known not to be in the image."""
    not_exhaustive: tuple[int, ...] = ()
    """LVIS: classes of which there may be more than are marked."""

    @property
    def crowd(self) -> tuple[bool, ...]:
        """Of each annotation, whether it marks a region of many objects."""
        return tuple(bool(annotation.get("iscrowd", 0)) for annotation in self.annotations)

    def masks(self, size: tuple[int, int]) -> list[np.ndarray]:
        """The mask (H, W) bool of each annotation.

        Raises:
            ValueError: the image has another size, or a segmentation is none; one line that names the file.
        """
        if size != self.size:
            raise ValueError(f"{self.source}: says that the image is {self.size}, it is {size} (H, W)")
        masks = []
        for annotation in self.annotations:
            try:
                masks.append(to_mask(annotation["segmentation"], size))
            except (ValueError, KeyError) as error:
                reason = "no segmentation" if isinstance(error, KeyError) else str(error)
                raise ValueError(f"{self.source}: annotation {annotation.get('id')}: {reason}") from error
        return masks

    def read(self, size: tuple[int, int]) -> InstanceMasks:
        """The instances; those without a pixel are dropped."""
        return pack(self.masks(size), self.classes, self.crowd, size)


def has_annotations(root: Path) -> bool:
    """Whether there are annotation files, or this is one."""
    return root.suffix == ".json" or any((root / "annotations").glob("*.json"))


def is_lvis(root: Path, split: str | None) -> bool:
    """Whether the annotations are LVIS's, by the file's name."""
    return annotation_file(root, split).name.startswith("lvis")


def find_coco(root: Path, split: str | None) -> InstanceSet:
    """`annotations/instances_SPLIT*.json`; images in `images/`, `SPLIT2017/`, `SPLIT/` or beside them."""
    return _find(root, split, name="coco")


def find_lvis(root: Path, split: str | None) -> InstanceSet:
    """`annotations/lvis_*_SPLIT*.json`; images as COCO's, also in the folder that their `coco_url` names."""
    return _find(root, split, name="lvis")


def annotation_file(root: Path, split: str | None) -> Path:
    """The annotations of a split.

    Raises:
        ValueError: there is none, or the split is needed to choose.
    """
    if root.suffix == ".json":
        return root
    there = sorted(p for p in (root / "annotations").glob("*.json") if p.stem.startswith(("instances_", "lvis_")))
    if split is None:
        if len(there) == 1:
            return there[0]
        raise ValueError(f"{root}: this layout needs the name of a split; there are: {_listed(there)}")
    exact = [p for p in there if p.stem == f"instances_{split}"]
    found = exact or [p for p in there if split in p.stem.removeprefix("instances_").split("_") or _year(p, split)]
    if len(found) != 1:
        raise ValueError(f"{root}: has {len(found)} annotation files of split {split!r}; there are: {_listed(there)}")
    return found[0]


def _year(path: Path, split: str) -> bool:
    return path.stem in (f"instances_{split}2017", f"instances_{split}2014")


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(p.name for p in paths) or "none"


def _find(root: Path, split: str | None, *, name: str) -> InstanceSet:
    path = annotation_file(root, split)
    content = _read(path)
    categories = sorted(content["categories"], key=lambda c: int(c["id"]))
    index_of = {int(c["id"]): index for index, c in enumerate(categories)}
    of_image: dict[int, list[Mapping[str, Any]]] = {int(image["id"]): [] for image in content["images"]}
    for annotation in content["annotations"]:
        image_id, category = annotation.get("image_id"), annotation.get("category_id")
        if image_id not in of_image or category not in index_of:
            what = f"image {image_id}" if image_id not in of_image else f"category {category}"
            raise ValueError(f"{path}: annotation {annotation.get('id')} is of {what}, which is not in the file")
        of_image[image_id].append(annotation)
    places = _places(path, split)
    samples = []
    for image in sorted(content["images"], key=lambda i: int(i["id"])):
        own = of_image[int(image["id"])]
        known = CocoAnnotations(
            source=path,
            size=(int(image["height"]), int(image["width"])),
            annotations=tuple(own),
            classes=tuple(index_of[a["category_id"]] for a in own),
            negative=_indices(image, "neg_category_ids", index_of),
            not_exhaustive=_indices(image, "not_exhaustive_category_ids", index_of),
        )
        samples.append(InstanceSample(_image_path(image, places), known, int(image["id"])))
    if not samples:
        raise ValueError(f"{path}: lists no images")
    colors = generate_colors(min(len(categories), 80))
    return InstanceSet(
        name=name,
        samples=tuple(samples),
        classes=tuple(
            ClassInfo(name=str(c["name"]), color=colors[index % len(colors)]) for index, c in enumerate(categories)
        ),
        category_ids=tuple(int(c["id"]) for c in categories),
        images_of_class=_images_of_class(samples, len(categories)),
        frequencies=tuple(str(c.get("frequency", "")) for c in categories) if name == "lvis" else (),
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a JSON file of annotations, or damaged ({error})") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{path}: not a file of annotations: it has no list {key!r}")
    for key, needed in {"images": ("id", "height", "width"), "categories": ("id", "name"), "annotations": ()}.items():
        for entry in content[key]:
            if not isinstance(entry, dict) or any(n not in entry for n in needed):
                raise ValueError(f"{path}: an entry of {key!r} lacks {' or '.join(needed) or 'its fields'}")
    found: Mapping[str, Any] = content
    return found


def _indices(image: Mapping[str, Any], key: str, index_of: Mapping[int, int]) -> tuple[int, ...]:
    return tuple(index_of[c] for c in image.get(key, ()) if c in index_of)


def _places(path: Path, split: str | None) -> list[Path]:
    """Folders in which the images may lie."""
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    names = ["images", *([f"{split}2017", split, f"images/{split}2017", f"images/{split}"] if split else [])]
    names += ["train2017", "val2017", "images/train2017", "images/val2017", "."]
    return [folder for folder in (root / n for n in dict.fromkeys(names)) if folder.is_dir()]


def _image_path(image: Mapping[str, Any], places: Sequence[Path]) -> Path:
    names = [str(image["file_name"])] if "file_name" in image else []
    if "coco_url" in image:
        parts = str(image["coco_url"]).split("/")[-2:]
        names += ["/".join(parts), parts[-1]]
    for place in places:
        for name in names:
            if (place / name).is_file():
                return place / name
    return places[0] / (names[0] if names else f"{int(image['id']):012d}.jpg")


def _images_of_class(samples: Sequence[InstanceSample], num_classes: int) -> tuple[int, ...]:
    counts = np.zeros(num_classes, np.int64)
    for sample in samples:
        assert isinstance(sample.annotations, CocoAnnotations)
        counts[list(set(sample.annotations.classes))] += 1
    return tuple(counts.tolist())
