"""What an image shows, and what a model found in it, as the metrics take them."""

from __future__ import annotations

import numpy as np

from pointrend.data.coco import CocoAnnotations
from pointrend.data.instance_layouts import InstanceMasks, InstanceSample, read_instances
from pointrend.data.segmentations import mask_to_rle
from pointrend.metrics.coco_evaluation import Federated
from pointrend.metrics.instances import ImageInstances
from pointrend.results import InstanceResult


def ground_truth(sample: InstanceSample, image_id: int, size: tuple[int, int]) -> ImageInstances:
    """What an image of `size` (H, W) shows; boxes and areas are those of the masks, COCO's as the file states them."""
    known = sample.annotations
    if isinstance(known, CocoAnnotations):
        return _stated(known, image_id, size)
    masks = read_instances(sample, size)
    return ImageInstances(
        image_id=image_id,
        size=size,
        boxes=_extents(masks),
        classes=masks.classes,
        masks=[mask_to_rle(masks.mask(index)) for index in range(len(masks.instance_ids))],
        crowd=masks.crowd,
    )


def federated(sample: InstanceSample) -> Federated:
    """What LVIS says of the classes of an image beside its instances."""
    known = sample.annotations
    assert isinstance(known, CocoAnnotations)
    return Federated(absent=known.negative, incomplete=known.not_exhaustive)


def as_instances(result: InstanceResult, image_id: int) -> ImageInstances:
    """A prediction as the metrics take it."""
    height, width = result.image.shape[:2]
    return ImageInstances(
        image_id=image_id,
        size=(height, width),
        boxes=result.boxes,
        classes=result.class_ids,
        masks=[result.masks.rle(index) for index in range(len(result))],
        scores=result.scores,
    )


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box (xyxy) around the pixels of a mask (H, W) bool; zeros without any."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _stated(known: CocoAnnotations, image_id: int, size: tuple[int, int]) -> ImageInstances:
    masks = known.masks(size)
    boxes, areas = [], []
    for annotation, mask in zip(known.annotations, masks, strict=True):
        if "bbox" in annotation:
            left, top, width, height = (float(value) for value in annotation["bbox"])
            boxes.append((left, top, left + width, top + height))
        else:
            boxes.append(extent(mask))
        areas.append(float(annotation.get("area", mask.sum())))
    return ImageInstances(
        image_id=image_id,
        size=size,
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        classes=np.array(known.classes, np.int64),
        masks=[mask_to_rle(mask) for mask in masks],
        crowd=np.array(known.crowd, bool),
        areas=np.array(areas, np.float64),
    )


def _extents(masks: InstanceMasks) -> np.ndarray:
    boxes = [extent(masks.mask(index)) for index in range(len(masks.instance_ids))]
    return np.array(boxes, np.float32).reshape(-1, 4)
