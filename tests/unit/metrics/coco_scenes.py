"""What the tests of COCO's scores share: instances of hand-made masks, and pycocotools as the reference."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage

from pointrend.metrics.base import MetricSettings
from pointrend.metrics.coco import CocoMetric
from pointrend.metrics.instances import ImageInstances
from pointrend.rle import Rle

SIZE = (120, 140)
KINDS = ("mask", "box", "boundary")
Pair = tuple[ImageInstances, ImageInstances]


def encode(mask: np.ndarray) -> Rle:
    rle = rle_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def square(top: int, left: int, height: int, width: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def instances(
    masks: Sequence[np.ndarray],
    classes: Sequence[int] | None = None,
    *,
    scores: Sequence[float] | None = None,
    crowd: Sequence[bool] | None = None,
    areas: Sequence[float] | None = None,
    image_id: int = 1,
    size: tuple[int, int] = SIZE,
) -> ImageInstances:
    """Instances of masks, with the boxes around them."""
    rles = [encode(mask) for mask in masks]
    boxes = np.array([rle_masks.toBbox(rle) for rle in rles], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return ImageInstances(
        image_id=image_id,
        size=size,
        boxes=boxes,
        classes=np.array(classes if classes is not None else [0] * len(rles), dtype=np.int64),
        masks=rles,
        scores=None if scores is None else np.array(scores, dtype=np.float64),
        crowd=None if crowd is None else np.array(crowd, dtype=bool),
        areas=None if areas is None else np.array(areas, dtype=np.float64),
    )


def scores_of(
    pairs: Sequence[Pair],
    num_classes: int = 1,
    *,
    limits: Sequence[int] = (1, 10, 100),
    boundary_ratio: float | None = None,
) -> dict[str, float]:
    """The numbers of images, with classes "0", "1", ..."""
    metric = CocoMetric(settings_of(num_classes, boundary_ratio), limits)
    for predictions, truth in pairs:
        metric.update(predictions, truth)
    return metric.compute()


def settings_of(num_classes: int, boundary_ratio: float | None = None) -> MetricSettings:
    return MetricSettings(tuple(str(index) for index in range(num_classes)), boundary_ratio)


def recalls(scores: dict[str, float], kind: str) -> dict[int, float]:
    """The average recalls by the number of detections that count."""
    start = f"{kind}_ar_"
    return {int(name.removeprefix(start)): value for name, value in scores.items() if name.startswith(start)}


class BoundaryEval(COCOeval):
    """pycocotools, with the smaller one of mask IoU and Boundary IoU; bands by scipy's erosion."""

    def computeIoU(self, imgId: int, catId: int) -> Any:
        ious = super().computeIoU(imgId, catId)
        truth, found = self._gts[imgId, catId], self._dts[imgId, catId]
        if len(ious) == 0:
            return ious
        order = np.argsort([-one["score"] for one in found], kind="mergesort")[: self.params.maxDets[-1]]
        bands = [self.band(found[index]["segmentation"]) for index in order]
        for column, one in enumerate(truth):
            true = self.band(one["segmentation"])
            for row, band in enumerate(bands):
                if not one["iscrowd"] and ious[row, column] > 0:
                    iou = (band & true).sum() / max(1, (band | true).sum())
                    ious[row, column] = min(ious[row, column], iou)
        return ious

    @staticmethod
    def band(rle: Rle) -> np.ndarray:
        mask = rle_masks.decode(rle) > 0
        width = max(1, round(0.02 * math.hypot(*mask.shape)))
        return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0)


def pycocotools_scores(pairs: Sequence[Pair], num_classes: int, limits: Sequence[int], kind: str) -> dict[str, float]:
    """What pycocotools says, with its -1 as nan; AP at the largest limit."""
    datasets = []
    for side in (1, 0):
        annotations = []
        for pair in pairs:
            image = pair[side]
            for index in range(len(image)):
                x, y, right, bottom = image.boxes[index].tolist()
                box, area = [x, y, right - x, bottom - y], float(rle_masks.area(image.masks[index]))
                if image.areas is not None:
                    area = float(image.areas[index])
                elif kind == "box" and side == 0:
                    area = box[2] * box[3]
                one = {"id": len(annotations) + 1, "image_id": image.image_id, "bbox": box, "area": area}
                one |= {"category_id": int(image.classes[index]), "segmentation": image.masks[index]}
                one["iscrowd"] = int(image.crowd is not None and bool(image.crowd[index]))
                if side == 0:
                    one["score"] = float(image.scores[index])
                annotations.append(one)
        dataset = COCO()
        dataset.dataset = {
            "images": [{"id": t.image_id, "height": t.size[0], "width": t.size[1]} for _, t in pairs],
            "annotations": annotations,
            "categories": [{"id": index, "name": str(index)} for index in range(num_classes)],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            dataset.createIndex()
        datasets.append(dataset)
    evaluator = BoundaryEval if kind == "boundary" else COCOeval
    evaluation = evaluator(*datasets, "bbox" if kind == "box" else "segm")
    evaluation.params.maxDets = list(limits)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()

    def mean(values: np.ndarray) -> float:
        return 100 * float(values[values > -1].mean()) if (values > -1).any() else math.nan

    precision, recall = evaluation.eval["precision"][..., -1], evaluation.eval["recall"]
    return {
        f"{kind}_ap": mean(precision[..., 0]),
        f"{kind}_ap50": mean(precision[0, ..., 0]),
        f"{kind}_ap75": mean(precision[5, ..., 0]),
        f"{kind}_ap_small": mean(precision[..., 1]),
        f"{kind}_ap_medium": mean(precision[..., 2]),
        f"{kind}_ap_large": mean(precision[..., 3]),
        **{f"{kind}_ar_{limit}": mean(recall[:, :, 0, index]) for index, limit in enumerate(limits)},
        **{f"{kind}_ap/{index}": mean(precision[:, :, index, 0]) for index in range(num_classes)},
    }


def assert_as_pycocotools(pairs: Sequence[Pair], num_classes: int, limits: tuple[int, int, int]) -> dict[str, float]:
    ours = scores_of(pairs, num_classes, limits=limits)
    expected: dict[str, float] = {}
    for kind in KINDS:
        expected |= pycocotools_scores(pairs, num_classes, limits, kind)
    assert set(ours) == set(expected)
    np.testing.assert_allclose([ours[name] for name in expected], list(expected.values()), rtol=0, atol=1e-9)
    return ours


def random_pair(rng: np.random.Generator, image_id: int, classes: int, regions: int, size: tuple[int, int]) -> Pair:
    """Blobs, and found again: moved, of another class, twice or not at all, with scores that often tie."""
    height, width = size
    truth, found, found_classes = [], [], []
    true_classes = rng.integers(0, classes, regions).tolist()
    for true_class in true_classes:
        high, wide = rng.integers(1, max(2, height * 3 // 4)), rng.integers(1, max(2, width * 3 // 4))
        top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
        mask = square(top, left, high, wide, size)
        if rng.random() < 0.7:
            mask &= ndimage.gaussian_filter(rng.normal(size=size), 3) > -0.05
        truth.append(mask)
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            shift = rng.integers(-2, 3, 2) * rng.integers(0, 2)
            found.append(np.roll(mask, shift, (0, 1)))
            found_classes.append(true_class if rng.random() < 0.8 else int(rng.integers(0, classes)))
    for _ in range(rng.integers(0, 4)):
        top, left = rng.integers(0, height), rng.integers(0, width)
        found.append(square(top, left, 20, 30, size))
        found_classes.append(int(rng.integers(0, classes)))
    options: dict[str, Any] = {"image_id": image_id, "size": size}
    scores = np.round(rng.random(len(found)), rng.choice([1, 6]))
    own_areas = [float(m.sum() * rng.choice([0.5, 1, 2])) for m in truth] if rng.random() < 0.5 else None
    crowd = rng.random(regions) < rng.choice([0, 0.3])
    return (
        instances(found, found_classes, scores=scores, **options),
        instances(truth, true_classes, crowd=crowd, areas=own_areas, **options),
    )
