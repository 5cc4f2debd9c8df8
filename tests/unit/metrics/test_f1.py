from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle_masks
from scipy.optimize import linear_sum_assignment

from pointrend.metrics.base import MetricSettings
from pointrend.metrics.f1 import THRESHOLDS, F1Metric
from pointrend.metrics.instances import ImageInstances

SIZE = (60, 80)
SETTINGS = MetricSettings(("a", "b", "c", "d"))
Pair = tuple[ImageInstances, ImageInstances]


def of_masks(masks: Sequence[np.ndarray], scores: Sequence[float] | None = None, **options: Any) -> ImageInstances:
    rles = [rle_masks.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    fields: dict[str, Any] = {"image_id": 1, "size": SIZE, "classes": np.zeros(len(rles), dtype=np.int64)} | options
    return ImageInstances(
        boxes=np.zeros((len(rles), 4)),
        masks=[{"size": list(SIZE), "counts": rle["counts"].decode()} for rle in rles],
        scores=None if scores is None else np.array(scores, dtype=np.float64),
        **fields,
    )


def bar(row: int, length: int, start: int = 0) -> np.ndarray:
    """A bar of one row."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[row, start : start + length] = True
    return mask


def of_labels(labels: np.ndarray, scored: bool) -> ImageInstances:
    masks = [labels == label for label in np.unique(labels) if label]
    return of_masks(masks, scores=[1.0] * len(masks) if scored else None)


def scores_of(*pairs: Pair, thresholds: Sequence[float] = THRESHOLDS, min_score: float = 0.5) -> dict[str, float]:
    metric = F1Metric(SETTINGS, thresholds, min_score)
    for pair in pairs:
        metric.update(*pair)
    return metric.compute()


def per_threshold(scores: dict[str, float]) -> list[float]:
    return [scores[f"f1_{iou:g}"] for iou in THRESHOLDS]


def test_thresholds() -> None:
    assert pytest.approx(np.arange(0.5, 0.91, 0.05)) == THRESHOLDS


def test_by_hand() -> None:
    """IoUs 0.8 and 0.52, one false detection, one missed object."""
    truth = of_masks([bar(0, 50), bar(2, 50), bar(4, 50)])
    found = of_masks([bar(0, 40), bar(2, 26), bar(9, 10)], [0.9, 0.8, 0.7])
    scores = scores_of((found, truth))
    two, one = 100 * 4 / 6, 100 * 2 / 6
    # IoU must be over the threshold, so 0.8 is not right at 0.8.
    assert per_threshold(scores) == pytest.approx((two, one, one, one, one, one, 0, 0, 0))
    assert (scores["mean_f1"], scores["pooled_f1"]) == pytest.approx([(two + 5 * one) / 9] * 2)


def test_images_weigh_the_same_and_objects_too() -> None:
    few = (of_masks([bar(0, 10)], [1.0]), of_masks([bar(0, 10)]))
    many = (
        of_masks([bar(0, 10)], [1.0], image_id=2),
        of_masks([bar(row, 10) for row in range(9)], image_id=2),
    )
    scores = scores_of(few, many)
    assert scores["mean_f1"] == pytest.approx((100 + 100 * 2 / 10) / 2)
    assert scores["pooled_f1"] == pytest.approx(100 * 4 / 12)


def test_scores_decide_what_is_there() -> None:
    truth = of_masks([bar(0, 10)])
    found = of_masks([bar(0, 10), bar(5, 10)], [0.9, 0.3])
    assert scores_of((found, truth))["mean_f1"] == 100.0
    assert scores_of((found, truth), min_score=0.3)["mean_f1"] == pytest.approx(100 * 2 / 3)
    assert scores_of((found, truth), min_score=0.95)["mean_f1"] == 0.0


def test_the_second_detection_of_an_object_is_wrong() -> None:
    truth = of_masks([bar(0, 20)])
    found = of_masks([bar(0, 19), bar(0, 20)], [0.9, 0.8])
    assert scores_of((found, truth), thresholds=(0.5,))["mean_f1"] == pytest.approx(100 * 2 / 3)


def test_classes_must_agree() -> None:
    truth = of_masks([bar(0, 20)], classes=np.array([3]))
    found = of_masks([bar(0, 20)], [0.9], classes=np.array([1]))
    assert scores_of((found, truth))["mean_f1"] == 0.0


def test_crowds_count_for_nothing() -> None:
    truth = of_masks([bar(0, 20), bar(2, 80)], crowd=np.array([False, True]))
    found = of_masks([bar(0, 20), bar(2, 10), bar(2, 10, start=40)], [0.9, 0.8, 0.7])
    scores = scores_of((found, truth))
    assert scores["mean_f1"] == scores["pooled_f1"] == 100.0


def test_empty_images() -> None:
    nothing, one = of_masks([]), of_masks([bar(0, 9)])
    none_found, one_found = of_masks([], []), of_masks([bar(0, 9)], [1.0])
    for pairs in ([], [(none_found, nothing)]):
        scores = scores_of(*pairs)
        assert math.isnan(scores["mean_f1"])
        assert math.isnan(scores["pooled_f1"])
    assert scores_of((none_found, one))["mean_f1"] == 0.0
    assert scores_of((one_found, nothing))["mean_f1"] == 0.0
    other = (of_masks([bar(0, 9)], [1.0], image_id=2), of_masks([bar(0, 9)], image_id=2))
    assert scores_of((none_found, nothing), other)["mean_f1"] == 100.0  # the empty image is left out
    without_pixels = (of_masks([bar(0, 0)], [1.0]), of_masks([bar(0, 0)]))
    assert scores_of(without_pixels)["mean_f1"] == 0.0


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), cell=st.integers(5, 12))
def test_label_images_score_as_by_their_histogram(seed: int, cell: int) -> None:
    """Independent: label images, IoU by a joint histogram, the best assignment."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(SIZE)
    labels = (rows // cell) * 100 + columns // cell + 1
    truth = np.where(rng.random(labels.max() + 1)[labels] < 0.6, labels, 0)
    shift = int(rng.integers(0, 3))
    found = np.where(rng.random(labels.max() + 1)[labels] < 0.8, np.roll(truth, shift, rng.integers(0, 2)), 0)
    scores = scores_of((of_labels(found, True), of_labels(truth, False)))

    size = 1 + labels.max()
    joint = np.bincount((truth * size + found).ravel(), minlength=size**2).reshape(size, size)
    whole = joint.sum(1, keepdims=True) + joint.sum(0) - joint
    ious = joint[1:, 1:] / np.maximum(whole[1:, 1:], 1)
    objects = len(np.unique(truth[truth > 0])) + len(np.unique(found[found > 0]))
    for threshold, value in zip(THRESHOLDS, per_threshold(scores), strict=True):
        able = ious > threshold
        right = able[linear_sum_assignment(able, maximize=True)].sum()
        assert value == pytest.approx(100 * 2 * right / objects if objects else math.nan, nan_ok=True)


def test_names_of_the_numbers() -> None:
    scores = scores_of((of_masks([bar(0, 9)], [1.0]), of_masks([bar(0, 9)])), thresholds=(0.5, 0.75))
    assert scores == {"mean_f1": 100.0, "pooled_f1": 100.0, "f1_0.5": 100.0, "f1_0.75": 100.0}


def test_what_does_not_belong_together_is_refused() -> None:
    found, truth = of_masks([bar(0, 9)], [1.0]), of_masks([bar(0, 9)])
    metric = F1Metric(SETTINGS)
    with pytest.raises(ValueError, match="predictions are of image 1, ground truth of 2"):
        metric.update(found, of_masks([bar(0, 9)], image_id=2))
    with pytest.raises(ValueError, match="predictions need scores"):
        metric.update(truth, truth)
    with pytest.raises(ValueError, match="image 1: true classes must be 0 to 3, got 4"):
        metric.update(found, of_masks([bar(0, 9)], classes=np.array([4])))
    assert len(metric) == 0
    metric.update(found, truth)
    with pytest.raises(ValueError, match="image 1 was added before"):
        metric.update(found, truth)
    for thresholds in ((), (0.0, 0.5), (1.0,)):
        with pytest.raises(ValueError, match="thresholds must be between 0 and 1"):
            F1Metric(SETTINGS, thresholds)
