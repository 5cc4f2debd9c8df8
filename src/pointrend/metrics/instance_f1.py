"""Mean F1 over IoU thresholds, as nuclei are scored.

After Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl", Nature Methods
2019: every image has an F1 at every threshold; images are averaged, then thresholds. An image with three nuclei
weighs as much as one with three hundred, so the score of all objects of all images together stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from pycocotools import mask as rle_masks

from pointrend.metrics.coco import json_number, percent
from pointrend.metrics.instances import ImageInstances, check_pair
from pointrend.rle import Rle

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)


@dataclass(frozen=True)
class F1Scores:
    """F1 in percent; nan if there was no object."""

    mean: float
    """Mean of `per_threshold`."""
    per_threshold: tuple[float, ...]
    """Mean over images at each threshold; images without any object, true or predicted, are left out."""
    pooled: float
    """Mean over thresholds of the F1 of all objects of all images together."""
    thresholds: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Scores for JSON, nan as None."""
        by_threshold = zip(self.thresholds, self.per_threshold, strict=True)
        return {
            "mean_f1": json_number(self.mean),
            "pooled_f1": json_number(self.pooled),
            "f1": {f"{iou:g}": json_number(value) for iou, value in by_threshold},
        }


def mean_f1(
    predictions: Sequence[ImageInstances],
    truths: Sequence[ImageInstances],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    min_score: float = 0.5,
) -> F1Scores:
    """F1 of masks: 2 TP / (2 TP + FP + FN).

    A detection is right if its IoU with an object of its class, which no other detection took, is over the threshold.
    Pairs are taken by falling IoU; a second detection of an object is wrong. Detections with most of their pixels (a
    share over the threshold) in crowds count as neither.

    Args:
        predictions, truths: of the same images in the same order.
        thresholds: of IoU, over 0 and under 1.
        min_score: detections with a lower score are left out. F1 is of one set of objects: it has no curve.

    Raises:
        ValueError: predictions and ground truth do not belong together, or a threshold is out of range.
    """
    if not thresholds or not all(0 < iou < 1 for iou in thresholds):
        raise ValueError(f"thresholds must be between 0 and 1, got {tuple(thresholds)}")
    if len(predictions) != len(truths):
        raise ValueError(f"expected predictions for {len(truths)} images, got {len(predictions)}")
    counts = np.zeros((len(truths), len(thresholds), 3))
    for image, (found, true) in enumerate(zip(predictions, truths, strict=True)):
        num_classes = 1 + int(max(true.classes.max(initial=0), found.classes.max(initial=0)))
        check_pair(found, true, num_classes)
        for label in np.union1d(found.classes, true.classes).tolist():
            counts[image] += _class_counts(found, true, label, thresholds, min_score)
    per_threshold = tuple(percent(row) for row in _f1(counts).T)
    return F1Scores(
        mean=percent(np.array(per_threshold)) / 100,
        per_threshold=per_threshold,
        pooled=percent(_f1(counts.sum(0))),
        thresholds=tuple(thresholds),
    )


def _class_counts(
    found: ImageInstances, true: ImageInstances, label: int, thresholds: Sequence[float], min_score: float
) -> np.ndarray:
    """True positives, false positives and false negatives (T, 3) of one class in one image."""
    assert found.scores is not None
    crowd = np.zeros(len(true), dtype=bool) if true.crowd is None else true.crowd.astype(bool)
    detections = list(compress(found.masks, (found.classes == label) & (found.scores >= min_score)))
    objects = list(compress(true.masks, (true.classes == label) & ~crowd))
    crowds = list(compress(true.masks, (true.classes == label) & crowd))
    ious = _overlap(detections, objects, crowd=False)
    shares = _overlap(detections, crowds, crowd=True).max(axis=1, initial=0.0)
    counts = []
    for threshold in thresholds:
        matched = _matched(ious, threshold)
        wrong = ~matched & (shares <= threshold)
        counts.append((matched.sum(), wrong.sum(), len(objects) - matched.sum()))
    return np.array(counts, dtype=np.float64)


def _overlap(detections: list[Rle], regions: list[Rle], *, crowd: bool) -> np.ndarray:
    """IoU (detections, regions), or with crowds the share of the detection that is covered."""
    if not detections or not regions:
        return np.zeros((len(detections), len(regions)))
    return np.asarray(rle_masks.iou(detections, regions, [int(crowd)] * len(regions)))


def _matched(ious: np.ndarray, threshold: float) -> np.ndarray:
    """Which detections (rows) have an object (columns) of their own."""
    taken_rows, taken_columns = (np.zeros(length, dtype=bool) for length in ious.shape)
    rows, columns = np.nonzero(ious > threshold)
    order = np.argsort(-ious[rows, columns], kind="stable")
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if not taken_rows[row] and not taken_columns[column]:
            taken_rows[row] = taken_columns[column] = True
    return taken_rows


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 of counts (..., 3); nan where there was no object."""
    right, wrong, missed = counts[..., 0], counts[..., 1], counts[..., 2]
    whole = 2 * right + wrong + missed
    return np.where(whole > 0, 2 * right / np.maximum(whole, 1), np.nan)
