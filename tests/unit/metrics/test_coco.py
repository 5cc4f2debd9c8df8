from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from coco_scenes import (
    KINDS,
    SIZE,
    assert_as_pycocotools,
    instances,
    random_pair,
    recalls,
    scores_of,
    settings_of,
    square,
)

from pointrend.metrics.base import MetricSettings
from pointrend.metrics.coco import CocoMetric
from pointrend.metrics.instances import ImageInstances


def test_many_detections_of_one_class() -> None:
    """More than a hundred objects: only the largest of the limits decides about AP."""
    masks = [square(10 * (i // 14), 10 * (i % 14), 8, 8) for i in range(168)]
    scores = np.linspace(0.9, 0.1, len(masks)).tolist()
    pair = (instances(masks, scores=scores), instances(masks))
    few, many = (assert_as_pycocotools([pair], 1, limits) for limits in ((1, 10, 100), (1, 100, 400)))
    assert recalls(few, "mask") == pytest.approx({1: 100 / 168, 10: 1000 / 168, 100: 10000 / 168})
    assert few["mask_ap"] == pytest.approx(100 * 60 / 101)  # recall stops at 100 / 168: thresholds 0 to 0.59 of 101
    assert many["mask_ap"] == many["boundary_ap"] == many["box_ap"] == 100.0
    assert recalls(many, "mask") == pytest.approx({1: 100 / 168, 100: 10000 / 168, 400: 100})


def test_by_hand() -> None:
    """Two objects; the first detection finds one with IoU 0.8, the second finds nothing, the third the other."""
    truth = instances([square(0, 0, 10, 10), square(50, 50, 10, 10)])
    found = instances(
        [square(0, 0, 8, 10), square(80, 80, 10, 10), square(50, 50, 10, 10)],
        scores=[0.9, 0.8, 0.7],
    )
    scores = scores_of([(found, truth)])
    for kind in ("mask", "box"):
        # Up to IoU 0.8: precision 1 up to recall 0.5 (thresholds 0 to 0.5, 51 of them), then 2 / 3.
        low = (51 + 50 * 2 / 3) / 101
        # Over 0.8 only the last is right: precision 1 / 3 up to recall 0.5.
        high = 51 / 3 / 101
        assert scores[f"{kind}_ap50"] == scores[f"{kind}_ap75"] == pytest.approx(100 * low)
        assert scores[f"{kind}_ap"] == pytest.approx(10 * (7 * low + 3 * high))
        assert scores[f"{kind}_ar_1"] == pytest.approx(10 * 7 * 0.5)
        assert scores[f"{kind}_ar_10"] == scores[f"{kind}_ar_100"] == pytest.approx(10 * (7 * 1.0 + 3 * 0.5))
        assert scores[f"{kind}_ap_small"] == scores[f"{kind}_ap"]
        assert math.isnan(scores[f"{kind}_ap_medium"])
        assert math.isnan(scores[f"{kind}_ap_large"])
        assert scores[f"{kind}_ap/0"] == scores[f"{kind}_ap"]


def test_boundary_by_hand() -> None:
    """Squares of 60 that differ by a border of two pixels: masks agree, thin bands do not."""
    size = (300, 400)  # diagonal 500, bands of 10 pixels
    truth, found = square(50, 50, 60, 60, size), square(52, 52, 56, 56, size)
    band_truth, band_found = 60**2 - 40**2, 56**2 - 36**2
    # The bands share the pixels of the smaller square's band that lie within the larger one's.
    shared = 56**2 - 40**2
    iou = shared / (band_truth + band_found - shared)
    assert iou == pytest.approx(2 / 3)
    scores = scores_of([(instances([found], scores=[1.0], size=size), instances([truth], size=size))])
    assert scores["boundary_ap"] == pytest.approx(40.0)  # right at 0.5 to 0.65
    assert scores["mask_ap"] == pytest.approx(80.0)  # 56² / 60² = 0.871
    wide = scores_of(
        [(instances([found], scores=[1.0], size=size), instances([truth], size=size))], boundary_ratio=0.06
    )
    assert wide["boundary_ap"] == wide["mask_ap"]  # bands of 30 pixels cover the squares


def test_crowds_are_neither_found_nor_missed() -> None:
    crowd = square(40, 0, 40, 140)
    truth = instances([square(0, 0, 20, 20), crowd], crowd=[False, True])
    inside = [square(45, 10 * i, 10, 10) for i in range(5)]
    found = instances([square(0, 0, 20, 20), *inside], scores=[0.5, *[0.9] * 5])
    scores = assert_as_pycocotools([(found, truth)], 1, (1, 10, 100))
    assert scores["mask_ap"] == scores["box_ap"] == scores["boundary_ap"] == 100.0
    alone = instances([crowd], crowd=[True])
    assert math.isnan(scores_of([(instances(inside, scores=[0.9] * 5), alone)])["mask_ap"])
    outside = instances([square(0, 0, 20, 20), square(100, 0, 10, 10)], scores=[0.5, 0.9])
    assert scores_of([(outside, truth)])["mask_ap"] == pytest.approx(50.0)


@pytest.mark.parametrize("kind", ["box", "mask", "boundary"])
def test_sizes_are_those_of_the_annotations(kind: str) -> None:
    masks = [square(0, 0, 30, 30), square(40, 0, 40, 40), square(0, 35, 110, 100)]
    found = instances(masks, scores=[1.0, 1.0, 1.0])
    own = scores_of([(found, instances(masks))])
    assert own[f"{kind}_ap_small"] == own[f"{kind}_ap_medium"] == own[f"{kind}_ap_large"] == 100.0
    # The first one is large by its annotation, so there is no small object, and two large ones.
    annotated = scores_of([(found, instances(masks, areas=[1e5, 1600, 1e5]))])
    assert math.isnan(annotated[f"{kind}_ap_small"])
    assert annotated[f"{kind}_ap_large"] == annotated[f"{kind}_ap_medium"] == 100.0
    only = instances(masks[1:], scores=[1.0, 1.0])
    half = scores_of([(only, instances(masks, areas=[1e5, 1600, 1e5]))])
    assert half[f"{kind}_ap_large"] == pytest.approx(100 * 51 / 101)


def test_nothing_there_is_nan_and_nothing_found_is_zero() -> None:
    nothing, one = instances([]), instances([square(0, 0, 10, 10)])
    no_prediction = instances([], scores=[])
    for pairs in ([], [(no_prediction, nothing)], [(instances([square(0, 0, 9, 9)], scores=[0.9]), nothing)]):
        scores = scores_of(pairs, 3)
        assert all(math.isnan(value) for value in scores.values())
        assert len(scores) == 3 * (6 + 3 + 3)
    scores = scores_of([(no_prediction, one)], 3)
    for kind in KINDS:
        assert [scores[f"{kind}_{name}"] for name in ("ap", "ap50", "ap_small")] == [0.0, 0.0, 0.0]
        assert recalls(scores, kind) == {1: 0.0, 10: 0.0, 100: 0.0}
        assert scores[f"{kind}_ap/0"] == 0.0
        assert all(math.isnan(scores[f"{kind}_{name}"]) for name in ("ap_large", "ap/1", "ap/2"))


def test_classes_that_do_not_occur_weigh_nothing() -> None:
    mask = square(0, 0, 10, 10)
    found = instances([mask, square(50, 50, 20, 20)], [2, 0], scores=[0.9, 0.95])
    scores = scores_of([(found, instances([mask], [2]))], 5)
    assert scores["mask_ap"] == 100.0
    assert [math.isnan(scores[f"mask_ap/{index}"]) for index in range(5)] == [True, True, False, True, True]


def test_empty_masks_and_boxes_of_no_area_match_nothing() -> None:
    truth = instances([square(0, 0, 10, 10), square(0, 0, 0, 0)])
    found = instances([square(0, 0, 10, 10), square(0, 0, 0, 0)], scores=[0.9, 0.8])
    scores = assert_as_pycocotools([(found, truth)], 1, (1, 10, 100))
    assert scores["mask_ap"] == pytest.approx(100 * 51 / 101)


def test_order_of_images_and_float32_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    pairs = [random_pair(rng, image_id, 2, 8, (60, 45)) for image_id in range(9)]
    forwards, backwards = scores_of(pairs, 2), scores_of(pairs[::-1], 2)
    assert forwards == backwards
    narrow = [
        (
            ImageInstances(
                p.image_id, p.size, p.boxes.astype(np.float32), p.classes.astype(np.int32), p.masks, p.scores
            ),
            t,
        )
        for p, t in pairs
    ]
    for name, value in scores_of(narrow, 2).items():
        assert not name.startswith("box_") or value == pytest.approx(forwards[name], nan_ok=True)


def test_computing_twice_going_on_and_starting_again() -> None:
    rng = np.random.default_rng(4)
    pairs = [random_pair(rng, image_id, 2, 8, (60, 45)) for image_id in range(6)]
    metric = CocoMetric(settings_of(2))
    metric.compute_with_cache = False
    for pair in pairs[:3]:
        metric.update(*pair)
    assert len(metric) == 3
    assert metric.compute() == metric.compute() == scores_of(pairs[:3], 2)
    for pair in pairs[3:]:
        metric.update(*pair)
    assert metric.compute() == scores_of(pairs, 2)
    metric.reset()
    assert len(metric) == 0
    for pair in pairs[:3]:
        metric.update(*pair)
    assert metric.compute() == scores_of(pairs[:3], 2)


def test_numbers_of_one_image_are_refused() -> None:
    mask = square(0, 0, 10, 10)
    with pytest.raises(NotImplementedError, match="call update, then compute"):
        CocoMetric(settings_of(1))(instances([mask], scores=[0.9]), instances([mask]))


def test_ids_of_pixels_are_not_kept() -> None:
    truth = replace(instances([square(0, 0, 10, 10)]), instance_ids=np.zeros(SIZE, np.int32))
    metric = CocoMetric(settings_of(1))
    metric.update(instances([], scores=[]), truth)
    ((_, kept),) = metric.kept()
    assert kept.instance_ids is None


def test_it_is_silent(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    mask = square(0, 0, 10, 10)
    scores_of([(instances([mask], scores=[0.9]), instances([mask]))])
    assert capfd.readouterr() == ("", "")
    assert not recwarn


def test_names_of_the_numbers() -> None:
    mask = square(0, 0, 10, 10)
    metric = CocoMetric(MetricSettings(("cat", "dog"), max_detections=400))
    metric.update(instances([mask], [1], scores=[0.9]), instances([mask], [1]))
    of_kind = {"ap": 100.0, "ap50": 100.0, "ap75": 100.0, "ap_small": 100.0, "ap_medium": math.nan}
    of_kind |= {"ap_large": math.nan, "ar_1": 100.0, "ar_100": 100.0, "ar_400": 100.0}
    of_kind |= {"ap/cat": math.nan, "ap/dog": 100.0}
    expected = {f"{kind}_{name}": value for kind in KINDS for name, value in of_kind.items()}
    assert metric.compute() == pytest.approx(expected, rel=0, abs=0, nan_ok=True)
    for names in (("cat", "cat"), ()):
        with pytest.raises(ValueError, match="class_names must be distinct names, at least one"):
            MetricSettings(names)


def test_what_does_not_belong_together_is_refused_and_not_counted() -> None:
    mask = square(0, 0, 10, 10)
    truth, found = instances([mask]), instances([mask], scores=[0.5])
    metric = CocoMetric(settings_of(2))
    with pytest.raises(ValueError, match="predictions are of image 2, ground truth of 1"):
        metric.update(instances([mask], scores=[0.5], image_id=2), truth)
    with pytest.raises(ValueError, match=r"image 1: predictions are for size \(9, 9\), ground truth for \(120, 140\)"):
        metric.update(instances([square(0, 0, 3, 3, (9, 9))], scores=[0.5], size=(9, 9)), truth)
    with pytest.raises(ValueError, match="image 1: predictions need scores, got None"):
        metric.update(truth, truth)
    with pytest.raises(ValueError, match="image 1: predicted classes must be 0 to 1, got 2"):
        metric.update(instances([mask], [2], scores=[0.5]), truth)
    with pytest.raises(ValueError, match="image 1: true classes must be 0 to 1, got -1"):
        metric.update(found, instances([mask], [-1]))
    assert len(metric) == 0
    metric.update(found, truth)
    with pytest.raises(ValueError, match="image 1 was added before"):
        metric.update(found, truth)
    assert metric.compute()["mask_ap"] == 100.0


def test_unusable_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="class_names must be distinct names, at least one"):
        settings_of(0)
    with pytest.raises(ValueError, match="boundary_ratio must be between 0 and 1, got 0"):
        settings_of(1, boundary_ratio=0)
    for limits in ((1, 100, 10), (0, 1, 10), ()):
        with pytest.raises(ValueError, match="must be positive and rising"):
            CocoMetric(settings_of(1), limits)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pointrend.metrics._faster_coco", raising=False)
    monkeypatch.delattr("pointrend.metrics._faster_coco", raising=False)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ImportError, match=r"pip install 'pointrend\[train\]'"):
        CocoMetric(settings_of(1)).compute()
