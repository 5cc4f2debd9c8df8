"""Finding the images of an instance data set by its layout."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from pointrend.data.coco import find_coco, find_lvis, has_annotations, is_lvis
from pointrend.data.id_images import find_cityscapes_instances, find_instance_ids, find_nuclei
from pointrend.data.instance_sets import InstanceMasks, InstanceSample, InstanceSet, read_instances

__all__ = [
    "INSTANCE_LAYOUTS",
    "InstanceMasks",
    "InstanceSample",
    "InstanceSet",
    "find_instance_samples",
    "read_instances",
]

INSTANCE_LAYOUTS: dict[str, Callable[[Path, str | None], InstanceSet]] = {
    "coco": find_coco,
    "lvis": find_lvis,
    "cityscapes-instances": find_cityscapes_instances,
    "nuclei": find_nuclei,
    "instance-ids": find_instance_ids,
}


def find_instance_samples(root: Path, *, layout: str | None = None, split: str | None = None) -> InstanceSet:
    """Finds the images of one split and what is known of their instances.

    Args:
        root: the data set's folder; of coco and lvis also the annotations' .json file; of nuclei and instance-ids
            without a split, the folder that holds images/ and labels/.
        layout: one of `INSTANCE_LAYOUTS`; None looks at what is there.
        split: for instance "train" or "val".

    Raises:
        ValueError: unknown layout, missing or empty folders, annotations that are none; one line.
    """
    root = Path(root)
    if not root.exists():
        raise ValueError(f"{root}: no such folder")
    if layout is None or layout == "auto":
        layout = _detect(root, split)
    if layout not in INSTANCE_LAYOUTS:
        near = difflib.get_close_matches(layout, INSTANCE_LAYOUTS, n=1, cutoff=0)
        raise ValueError(
            f"unknown layout {layout!r}, did you mean {near[0]!r}? Layouts are auto, {', '.join(INSTANCE_LAYOUTS)}"
        )
    return INSTANCE_LAYOUTS[layout](root, split)


def _detect(root: Path, split: str | None) -> str:
    if has_annotations(root):
        return "lvis" if is_lvis(root, split) else "coco"
    if (root / "leftImg8bit").is_dir():
        return "cityscapes-instances"
    folder = root / split if split else root
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        return "instance-ids"
    raise ValueError(
        f"{folder}: no instance data set found; expected annotations/*.json (coco, lvis), leftImg8bit/ and gtFine/ "
        "(cityscapes-instances), or images/ and labels/ with an id for each object (instance-ids)"
    )
