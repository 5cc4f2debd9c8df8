"""Mean F1 over IoU thresholds, the usual score of nuclei.

It follows Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl", Nature Methods
2019: F1 of every image at every threshold is averaged over images, then over thresholds. As an image with three nuclei
weighs as much as one with three hundred, the score of the objects of all images together is reported too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import ClassVar

import numpy as np
from pycocotools import mask as rle_masks

from pointrend.metrics.base import InstanceMetric, MetricSettings, percent
from pointrend.metrics.instances import ImageInstances
from pointrend.rle import Rle

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)


class F1Metric(InstanceMetric[np.ndarray]):
    """F1 of masks: 2 TP / (2 TP + FP + FN).

    Detections and objects of the same class are matched one to one, by falling IoU, if their IoU is over the threshold.
    Unmatched detections are wrong, unless the ratio of their pixels in crowds is over the threshold.

    The number f1_0.5 is the mean at the threshold 0.5 over images with a true or predicted object; mean_f1 is the mean
    of these over thresholds; pooled_f1 is the mean over thresholds of the F1 of the objects of all images together.

    Args:
        settings: only the class names are used.
        thresholds: of IoU, over 0 and under 1.
        min_score: detections with a lower score are left out.
    """

    name = "f1"
    headline: ClassVar = {"mean_f1": "mean F1", "pooled_f1": "pooled F1"}

    def __init__(
        self, settings: MetricSettings, thresholds: Sequence[float] = THRESHOLDS, min_score: float = 0.5
    ) -> None:
        super().__init__(settings)
        if not thresholds or not all(0 < iou < 1 for iou in thresholds):
            raise ValueError(f"thresholds must be between 0 and 1, got {tuple(thresholds)}")
        self.thresholds = tuple(thresholds)
        self.min_score = min_score

    def keep(self, prediction: ImageInstances, truth: ImageInstances) -> np.ndarray:
        """Return true positives, false positives and false negatives (T, 3) of all classes together."""
        counts = np.zeros((len(self.thresholds), 3))
        for label in np.union1d(prediction.classes, truth.classes).tolist():
            counts += _class_counts(prediction, truth, label, self.thresholds, self.min_score)
        return counts

    def compute(self) -> dict[str, float]:
        """Compute the numbers of all added images."""
        counts = np.array(self.kept()).reshape(-1, len(self.thresholds), 3)
        per_threshold = [percent(row) for row in _f1(counts).T]
        numbers = {"mean_f1": percent(np.array(per_threshold)) / 100, "pooled_f1": percent(_f1(counts.sum(0)))}
        return numbers | {f"f1_{iou:g}": value for iou, value in zip(self.thresholds, per_threshold, strict=True)}


def _class_counts(
    predicted: ImageInstances, true: ImageInstances, label: int, thresholds: Sequence[float], min_score: float
) -> np.ndarray:
    """Count true positives, false positives and false negatives (T, 3) of one class in one image."""
    assert predicted.scores is not None
    crowd = np.zeros(len(true), dtype=bool) if true.crowd is None else true.crowd.astype(bool)
    detections = list(compress(predicted.masks, (predicted.classes == label) & (predicted.scores >= min_score)))
    objects = list(compress(true.masks, (true.classes == label) & ~crowd))
    crowds = list(compress(true.masks, (true.classes == label) & crowd))
    ious = _overlap(detections, objects, crowd=False)
    covered = _overlap(detections, crowds, crowd=True).max(axis=1, initial=0.0)
    counts = []
    for threshold in thresholds:
        matched = _matched(ious, threshold)
        wrong = ~matched & (covered <= threshold)
        counts.append((matched.sum(), wrong.sum(), len(objects) - matched.sum()))
    return np.array(counts, dtype=np.float64)


def _overlap(detections: list[Rle], regions: list[Rle], *, crowd: bool) -> np.ndarray:
    """Compute IoU (detections, regions), or for crowds the covered ratio of the detection."""
    if not detections or not regions:
        return np.zeros((len(detections), len(regions)))
    return np.asarray(rle_masks.iou(detections, regions, [int(crowd)] * len(regions)))


def _matched(ious: np.ndarray, threshold: float) -> np.ndarray:
    """Return which detections (rows) are matched when each takes at most one object (column)."""
    taken_rows, taken_columns = (np.zeros(length, dtype=bool) for length in ious.shape)
    rows, columns = np.nonzero(ious > threshold)
    order = np.argsort(-ious[rows, columns], kind="stable")
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if not taken_rows[row] and not taken_columns[column]:
            taken_rows[row] = taken_columns[column] = True
    return taken_rows


def _f1(counts: np.ndarray) -> np.ndarray:
    """Compute F1 of counts (..., 3); nan without objects."""
    right, wrong, missed = counts[..., 0], counts[..., 1], counts[..., 2]
    whole = 2 * right + wrong + missed
    return np.where(whole > 0, 2 * right / np.maximum(whole, 1), np.nan)
