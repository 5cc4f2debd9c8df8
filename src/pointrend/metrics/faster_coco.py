"""faster-coco-eval as this package needs it. Imported when something is evaluated, because it is optional.

What differs from the package as it is, and why:

- Boundary bands are made here. In images thinner than twice the band's width, and where the width is half a pixel
  from an integer, version 1.8 makes other bands than Cheng et al.'s code.
- Nothing is printed or summarised: `summarize` gives -1 for "nothing to find", which is no score.
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

BAND = "band"  # the annotations' key for the boundary band; theirs, "boundary", is overwritten by the package


class Evaluation(COCOeval_faster):  # type: ignore[misc]
    """Evaluation in silence, by masks and boundary bands where `boundary_share` is set."""

    boundary_share: float | None = None

    def computeIoU(self, imgId: int, catId: int) -> Any:
        """(detections by falling score, ground truth); crowds by masks alone, as in Cheng et al.'s code."""
        ious = super().computeIoU(imgId, catId)
        if len(ious) == 0 or self.boundary_share is None:
            return ious
        truth, found = (data.get_instances([imgId], [catId], True)[0][0] for data in (self.gt_dataset, self.dt_dataset))
        order = np.argsort([-one["score"] for one in found], kind="stable")[: self.params.maxDets[-1]]
        # The smaller IoU decides, so a pair that masks alone keep under every threshold needs no bands. Most do.
        near = (ious >= self.params.iouThrs[0]) & [not one["iscrowd"] for one in truth]
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        if len(rows) == 0:
            return ious
        bands = rle_masks.iou(
            [self._band(found[order[row]]) for row in rows], [self._band(truth[i]) for i in columns], [0] * len(columns)
        )
        block = np.ix_(rows, columns)
        smaller = np.array(ious)
        smaller[block] = np.minimum(smaller[block], bands)
        return smaller

    def _band(self, annotation: Annotation) -> Rle:
        assert self.boundary_share is not None
        if BAND not in annotation:
            annotation[BAND] = boundary_rle(annotation["segmentation"], self.boundary_share)
        band: Rle = annotation[BAND]
        return band


def evaluate(
    truths: Sequence[ImageInstances],
    predictions: Sequence[ImageInstances],
    images: list[dict[str, Any]],
    *,
    num_classes: int,
    boxes: bool,
    boundary_share: float | None,
    lvis: bool,
    max_detections: Sequence[int],
) -> Evaluation:
    """The evaluation after matching and accumulating, for images (their COCO entries) in the order given."""
    evaluation = Evaluation(
        _dataset(truths, images, num_classes, boxes),
        _dataset(predictions, images, num_classes, boxes),
        iouType="bbox" if boxes else "segm",
        lvis_style=lvis,
        print_function=_silent,
    )
    evaluation.boundary_share = boundary_share
    evaluation.params.maxDets = list(max_detections)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def boundary_rle(rle: Rle, share: float) -> Rle:
    """The boundary band of a mask: the mask without itself eroded by a share of the image's diagonal."""
    height, width = rle["size"]
    pixels = boundary_width((height, width), share)
    if min(height, width) <= 2 * pixels:
        return rle  # nothing is so far from the border
    band: Rle = rle_masks.rleToBoundary(rle, pixels / math.hypot(height, width))
    return band


def _dataset(
    instances: Sequence[ImageInstances],
    images: list[dict[str, Any]],
    num_classes: int,
    boxes: bool,
) -> COCO:
    annotations = (one for image in instances for one in _annotations(image, boxes))
    # Id 0 stands for "not matched".
    numbered = [{"id": number, **one} for number, one in enumerate(annotations, start=1)]
    # The frequency is a field that the LVIS mode insists on; nothing here reads what it makes of it.
    categories = [{"id": index, "name": str(index), "frequency": "f"} for index in range(num_classes)]
    dataset = COCO(print_function=_silent)
    dataset.dataset = {"images": images, "annotations": numbered, "categories": categories}
    dataset.createIndex()
    return dataset


def _annotations(image: ImageInstances, boxes: bool) -> Iterator[Annotation]:
    corners = image.boxes.astype(np.float64)
    sides = corners[:, 2:] - corners[:, :2]
    # As in COCO's own code, a detection is small by what is evaluated, ground truth by its own field.
    areas = image.areas
    if areas is None:
        areas = sides.prod(1) if boxes and image.scores is not None else mask_areas(image.masks)
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


def mask_areas(masks: Sequence[Rle]) -> np.ndarray:
    """Pixels of each mask (R,)."""
    return np.asarray(rle_masks.area(list(masks)) if len(masks) else [], dtype=np.float64)


def _silent(*_: object) -> None:
    """In place of print."""
