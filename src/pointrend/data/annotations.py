"""Annotations of one image: label image, id image, COCO or LVIS. All implement `pointrend.data.samples.Annotations`.

Shapes: R instances, K layers, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors

from pointrend.data.images import ImageError, read_ids, read_labels
from pointrend.data.problems import ANNOTATION, SIZE, UNREADABLE, VALUE, DatasetError, Problem
from pointrend.data.samples import Annotations, InstanceMasks, InstanceTruth
from pointrend.data.segmentations import mask_to_rle, to_mask


@dataclass(frozen=True, eq=False)
class LabelValues:
    """The meaning of the values of label images."""

    lookup: np.ndarray
    """(256,) uint8: train id, or `IGNORE`, of each raw label value."""
    valid: np.ndarray
    """(256,) bool: whether each raw label value is allowed."""


@dataclass(frozen=True, eq=False)
class LabelImage(Annotations):
    """A label image: a class at every pixel."""

    path: Path
    values: LabelValues

    def read(self, size: tuple[int, int]) -> tv_tensors.Mask:
        """Read the train ids (H, W) uint8."""
        return tv_tensors.Mask(torch.from_numpy(self.truth(size)))

    def truth(self, size: tuple[int, int]) -> np.ndarray:
        """Read the train ids (H, W) uint8."""
        raw = _of_size(read_labels(self.path), size, self.path)
        if len(wrong := raw[~self.values.valid[raw]]):
            raise DatasetError(
                f"{self.path}: label value {wrong[0]} is no class; allowed are {_ranges(self.values.valid)}"
            )
        labels: np.ndarray = self.values.lookup[raw]
        return labels

    def problems(self, image: Path, size: tuple[int, int] | None, *, whole: bool) -> list[Problem]:
        """List the problems of the file, which is always decoded."""
        try:
            raw = read_labels(self.path)
        except ImageError as error:
            return [Problem.of(UNREADABLE, self.path, error)]
        problems = []
        if size is not None and size != raw.shape:
            detail = f"labels are {raw.shape[1]} x {raw.shape[0]}, the image {image.name} is {size[1]} x {size[0]}"
            problems.append(Problem(SIZE, self.path, detail))
        occurs = np.bincount(raw.ravel(), minlength=256) > 0
        if wrong := np.flatnonzero(occurs & ~self.values.valid).tolist():
            shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
            problems.append(Problem(VALUE, self.path, f"value {shown}; allowed are {_ranges(self.values.valid)}"))
        return problems


@dataclass(frozen=True, eq=False)
class IdImage(Annotations):
    """An id image: each object's pixels hold its number, the background holds 0. All objects are of one class."""

    path: Path

    def read(self, size: tuple[int, int]) -> InstanceMasks:
        """Read the instances. Pixels with the same number are one object, even if they do not touch."""
        return self._instances(_of_size(read_ids(self.path), size, self.path))

    def truth(self, size: tuple[int, int]) -> InstanceTruth:
        """Read the instances; boxes are the extents of the masks."""
        return _measured(self.read(size))

    def problems(self, image: Path, size: tuple[int, int] | None, *, whole: bool) -> list[Problem]:
        """Read the file if `whole`, and report why that fails."""
        return _reading_problems(self, image, size) if whole else []

    def _instances(self, ids: np.ndarray) -> InstanceMasks:
        numbers = np.unique(ids[ids > 0]).tolist()
        return _one_layer(ids, numbers, [0] * len(numbers), [False] * len(numbers))


@dataclass(frozen=True, eq=False)
class CityscapesIds(IdImage):
    """Cityscapes' id image: objects have label id * 1000 + number; a label id alone marks a group of objects."""

    things: tuple[int, ...]
    """The label ids of the classes with instances, in the order of their class indices."""

    def truth(self, size: tuple[int, int]) -> InstanceTruth:
        """Read the instances and the unchanged ids; boxes are the extents of the masks."""
        instances = self.read(size)
        return replace(_measured(instances), instance_ids=instances.ids[0].numpy())

    def _instances(self, ids: np.ndarray) -> InstanceMasks:
        labels = {value: value // 1000 if value >= 1000 else value for value in np.unique(ids).tolist()}
        values = [value for value, label in labels.items() if label in self.things]
        classes = [self.things.index(labels[value]) for value in values]
        return _one_layer(ids, values, classes, crowd=[value < 1000 for value in values])


@dataclass(frozen=True, eq=False)
class CocoAnnotations:
    """The annotations of one image in a COCO or LVIS file."""

    source: Path
    """The annotation file, for messages."""
    size: tuple[int, int]
    """(H, W) of the image, as the file states it."""
    annotations: tuple[Mapping[str, Any], ...]
    """The image's entries of the file, unchanged."""
    classes: tuple[int, ...]
    """The class index of each annotation."""
    negative: tuple[int, ...] = ()
    """LVIS: classes that were looked for in the image and not found."""
    not_exhaustive: tuple[int, ...] = ()
    """LVIS: classes of which the image may show more objects than are annotated."""

    @property
    def crowd(self) -> tuple[bool, ...]:
        """Whether each annotation marks a region of many objects."""
        return tuple(bool(annotation.get("iscrowd", 0)) for annotation in self.annotations)

    def masks(self, size: tuple[int, int]) -> list[np.ndarray]:
        """Decode the mask (H, W) bool of each annotation. Raises as `read` does."""
        if size != self.size:
            raise DatasetError(f"{self.source}: the file states image size {self.size}, the image is {size} (H, W)")
        masks = []
        for annotation in self.annotations:
            try:
                masks.append(to_mask(annotation["segmentation"], size))
            except (ValueError, KeyError) as error:
                reason = "no segmentation" if isinstance(error, KeyError) else str(error)
                raise DatasetError(f"{self.source}: annotation {annotation.get('id')}: {reason}") from error
        return masks

    def read(self, size: tuple[int, int]) -> InstanceMasks:
        """Decode the instances; masks without pixels are dropped."""
        return pack(self.masks(size), self.classes, self.crowd, size)

    def truth(self, size: tuple[int, int]) -> InstanceTruth:
        """Decode the instances; boxes and areas are those stated in the file."""
        pairs = list(zip(self.annotations, self.masks(size), strict=True))
        return InstanceTruth(
            boxes=np.array([stated_box(entry, mask) for entry, mask in pairs], np.float64).reshape(-1, 4),
            classes=np.array(self.classes, np.int64),
            masks=[mask_to_rle(mask) for _, mask in pairs],
            crowd=np.array(self.crowd, bool),
            areas=np.array([float(entry.get("area", mask.sum())) for entry, mask in pairs], np.float64),
            absent=self.negative,
            incomplete=self.not_exhaustive,
        )

    def problems(self, image: Path, size: tuple[int, int] | None, *, whole: bool) -> list[Problem]:
        """Compare the image's size to the file's, and decode the masks if `whole`."""
        if size is not None and size != self.size:
            detail = f"is {size[1]} x {size[0]}, {self.source.name} states {self.size[1]} x {self.size[0]}"
            return [Problem(SIZE, image, detail)]
        return _reading_problems(self, image, size) if whole else []


def pack(
    masks: Sequence[np.ndarray], classes: Sequence[int], crowd: Sequence[bool], size: tuple[int, int]
) -> InstanceMasks:
    """Pack masks (H, W) bool into as few layers as first fit needs, so that masks of a layer do not overlap.

    Masks without pixels are dropped.
    """
    layers: list[np.ndarray] = []
    layer_of: dict[int, int] = {}
    for index, mask in enumerate(masks):
        if not mask.any():
            continue
        free = next((k for k, layer in enumerate(layers) if not layer[mask].any()), len(layers))
        if free == len(layers):
            layers.append(np.zeros(size, np.int32))
        layers[free][mask] = index + 1
        layer_of[index] = free
    return _instance_masks(
        np.stack(layers) if layers else np.zeros((0, *size), np.int32),
        [index + 1 for index in layer_of],
        list(layer_of.values()),
        [classes[index] for index in layer_of],
        [crowd[index] for index in layer_of],
    )


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box (xyxy) around the pixels of a mask (H, W) bool; zeros if it has no pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def stated_box(entry: Mapping[str, Any], mask: np.ndarray) -> tuple[float, ...]:
    """Return the box (xyxy) of a COCO annotation or result: its `bbox`, or else the extent of its mask."""
    if "bbox" not in entry:
        return extent(mask)
    left, top, width, height = (float(value) for value in entry["bbox"])
    return left, top, left + width, top + height


def _of_size(values: np.ndarray, size: tuple[int, int], path: Path) -> np.ndarray:
    if values.shape != size:
        raise DatasetError(f"{path}: labels are {values.shape}, the image is {size} (H, W)")
    return values


def _one_layer(ids: np.ndarray, numbers: list[int], classes: list[int], crowd: list[bool]) -> InstanceMasks:
    return _instance_masks(ids[None], numbers, [0] * len(numbers), classes, crowd)


def _instance_masks(
    ids: np.ndarray, numbers: list[int], layers: list[int], classes: list[int], crowd: list[bool]
) -> InstanceMasks:
    return InstanceMasks(
        ids=tv_tensors.Mask(torch.from_numpy(ids)),
        instance_ids=torch.tensor(numbers, dtype=torch.int32),
        layers=torch.tensor(layers, dtype=torch.int64),
        classes=torch.tensor(classes, dtype=torch.int64),
        crowd=torch.tensor(crowd, dtype=torch.bool),
    )


def _measured(instances: InstanceMasks) -> InstanceTruth:
    masks = [instances.mask(index) for index in range(len(instances.instance_ids))]
    return InstanceTruth(
        boxes=np.array([extent(mask) for mask in masks], np.float32).reshape(-1, 4),
        classes=instances.classes.numpy(),
        masks=[mask_to_rle(mask) for mask in masks],
        crowd=instances.crowd.numpy(),
    )


def _reading_problems(
    annotations: IdImage | CocoAnnotations, image: Path, size: tuple[int, int] | None
) -> list[Problem]:
    if size is None:
        return []
    try:
        annotations.read(size)
    except ValueError as error:
        return [Problem(ANNOTATION, image, str(error))]
    return []


def _ranges(valid: np.ndarray) -> str:
    """Return the allowed values in short, such as "0 to 11 and 255"."""
    values = np.flatnonzero(valid)
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return " and ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
