"""COCO's matching and accumulation by faster-coco-eval: from instances to arrays of precision and recall.

Import this module on use only: the package is optional. Shapes: T IoU thresholds (0.5, 0.55, ... 0.95), Q recall
thresholds, C classes, A areas (all, small, medium, large), M limits of detections.

Differences from the package:

- Boundary bands are computed here. Version 1.8 deviates from Cheng et al.'s code in images thinner than twice the
  band's width, and where the width is half a pixel from an integer.
- Nothing is printed or summarised: `summarize` returns -1 where there is no ground truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as rle_masks

from pointrend.metrics.boundary import boundary_width
from pointrend.metrics.instances import ImageInstances
from pointrend.rle import Rle

Annotation = dict[str, Any]

BAND = "band"  # key of an annotation's boundary band; the package overwrites its own key, "boundary"


class Evaluation(COCOeval_faster):  # type: ignore[misc]
    """COCO's evaluation without output, with boundary bands if `boundary_ratio` is set."""

    boundary_ratio: float | None = None

    def computeIoU(self, imgId: int, catId: int) -> Any:
        """Compute IoU (detections by falling score, ground truth); crowds by masks alone, as Cheng et al. do."""
        ious = super().computeIoU(imgId, catId)
        if len(ious) == 0 or self.boundary_ratio is None:
            return ious
        truth, detections = (
            data.get_instances([imgId], [catId], True)[0][0] for data in (self.gt_dataset, self.dt_dataset)
        )
        order = np.argsort([-one["score"] for one in detections], kind="stable")[: self.params.maxDets[-1]]
        # The smaller IoU decides, so bands matter only for pairs whose mask IoU reaches the lowest threshold.
        near = (ious >= self.params.iouThrs[0]) & [not one["iscrowd"] for one in truth]
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        if len(rows) == 0:
            return ious
        detected, true = [self._band(detections[order[row]]) for row in rows], [self._band(truth[i]) for i in columns]
        block = np.ix_(rows, columns)
        smaller = np.array(ious)
        smaller[block] = np.minimum(smaller[block], rle_masks.iou(detected, true, [0] * len(columns)))
        return smaller

    def _band(self, annotation: Annotation) -> Rle:
        assert self.boundary_ratio is not None
        if BAND not in annotation:
            annotation[BAND] = boundary_rle(annotation["segmentation"], self.boundary_ratio)
        band: Rle = annotation[BAND]
        return band


def precision_recall(
    pairs: Sequence[tuple[ImageInstances, ImageInstances]],
    *,
    num_classes: int,
    max_detections: Sequence[int],
    boxes: bool,
    boundary_ratio: float | None,
    lvis: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Match detections to ground truth greedily by score, and accumulate over images.

    Args:
        pairs: prediction and ground truth of every image, by rising image id.
        num_classes: C.
        max_detections: M rising limits of detections of a class in an image.
        boxes: match boxes instead of masks.
        boundary_ratio: match by the minimum of mask IoU and Boundary IoU, with this ratio of band width to image
            diagonal; None: by mask IoU.
        lvis: leave out detections of classes that were not looked for, by the truth's `absent` and `incomplete`.

    Returns:
        precision: (T, Q, C, A, M) in [0, 1], interpolated: the maximum precision at this or a higher recall.
        recall: (T, C, A, M) in [0, 1], the maximum recall. Both are nan without ground truth.
    """
    truths = [truth for _, truth in pairs]
    images: list[dict[str, Any]] = [{"id": one.image_id, "height": one.size[0], "width": one.size[1]} for one in truths]
    if lvis:
        for entry, truth in zip(images, truths, strict=True):
            entry["neg_category_ids"] = list(truth.absent)
            entry["not_exhaustive_category_ids"] = list(truth.incomplete)
    evaluation = Evaluation(
        _dataset(truths, images, num_classes, boxes),
        _dataset([prediction for prediction, _ in pairs], images, num_classes, boxes),
        iouType="bbox" if boxes else "segm",
        lvis_style=lvis,
        print_function=_silent,
    )
    evaluation.boundary_ratio = boundary_ratio
    evaluation.params.maxDets = list(max_detections)
    evaluation.evaluate()
    evaluation.accumulate()
    precision, recall = (np.asarray(evaluation.eval[name], dtype=np.float64) for name in ("precision", "recall"))
    # The package has -1 without ground truth.
    return np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall)


def boundary_rle(rle: Rle, ratio: float) -> Rle:
    """Return the boundary band of a mask: the mask minus its erosion by a ratio of the image's diagonal."""
    height, width = rle["size"]
    pixels = boundary_width((height, width), ratio)
    if min(height, width) <= 2 * pixels:
        return rle  # every pixel is near the image border
    band: Rle = rle_masks.rleToBoundary(rle, pixels / math.hypot(height, width))
    return band


def _dataset(instances: Sequence[ImageInstances], images: list[dict[str, Any]], num_classes: int, boxes: bool) -> COCO:
    annotations = (one for image in instances for one in _annotations(image, boxes))
    # Id 0 means "not matched".
    numbered = [{"id": number, **one} for number, one in enumerate(annotations, start=1)]
    # The LVIS mode requires a frequency; its result is not used here.
    categories = [{"id": index, "name": str(index), "frequency": "f"} for index in range(num_classes)]
    dataset = COCO(print_function=_silent)
    dataset.dataset = {"images": images, "annotations": numbered, "categories": categories}
    dataset.createIndex()
    return dataset


def _annotations(image: ImageInstances, boxes: bool) -> Iterator[Annotation]:
    corners = image.boxes.astype(np.float64)
    sides = corners[:, 2:] - corners[:, :2]
    # As in pycocotools, a detection's area is that of its box or mask, whichever is evaluated; ground truth states it.
    areas = image.areas
    if areas is None:
        areas = sides.prod(1) if boxes and image.scores is not None else rle_masks.area(list(image.masks))
    for index, mask in enumerate(image.masks):
        one: Annotation = {
            "image_id": image.image_id,
            "category_id": int(image.classes[index]),
            "bbox": [*corners[index, :2].tolist(), *sides[index].tolist()],
            "area": float(areas[index]),
            "iscrowd": int(image.crowd is not None and bool(image.crowd[index])),
        }
        if image.scores is not None:
            one["score"] = float(image.scores[index])
        if not boxes:
            one["segmentation"] = mask
        yield one


def _silent(*_: object) -> None:
    """Replace print, without output."""
