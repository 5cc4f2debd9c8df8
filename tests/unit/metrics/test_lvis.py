from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle_masks

from pointrend.metrics.base import MetricSettings
from pointrend.metrics.coco import CocoMetric
from pointrend.metrics.instances import ImageInstances
from pointrend.metrics.lvis import LvisMetric

SIZE = (100, 120)
Entry = tuple[ImageInstances, ImageInstances]

A, B = (10, 10, 30, 30), (60, 60, 90, 100)
ELSEWHERE = (0, 80, 40, 110)


def boxes_at(
    boxes: Sequence[tuple[int, int, int, int]],
    classes: Sequence[int] | None = None,
    scores: Sequence[float] | None = None,
    image_id: int = 1,
) -> ImageInstances:
    """Rectangular instances; boxes are top, left, bottom, right."""
    masks = []
    for top, left, bottom, right in boxes:
        mask = np.zeros(SIZE, dtype=np.uint8, order="F")
        mask[top:bottom, left:right] = 1
        rle = rle_masks.encode(mask)
        masks.append({"size": list(SIZE), "counts": rle["counts"].decode()})
    corners = np.array([(left, top, right, bottom) for top, left, bottom, right in boxes], dtype=np.float64)
    return ImageInstances(
        image_id=image_id,
        size=SIZE,
        boxes=corners.reshape(-1, 4),
        classes=np.array(classes if classes is not None else [0] * len(boxes), dtype=np.int64),
        masks=masks,
        scores=None if scores is None else np.array(scores, dtype=np.float64),
    )


def scores_of(entries: Sequence[Entry], num_classes: int = 2, **options: Any) -> dict[str, float]:
    metric = LvisMetric(settings_of(num_classes, **options))
    for entry in entries:
        metric.update(*entry)
    return metric.compute()


def settings_of(num_classes: int, *, max_detections: int = 300, **options: Any) -> MetricSettings:
    names = tuple(str(index) for index in range(num_classes))
    return MetricSettings(names, max_detections=max_detections, **options)


def per_class(scores: dict[str, float], num_classes: int = 2, kind: str = "mask") -> tuple[float, ...]:
    return tuple(scores[f"{kind}_ap/{index}"] for index in range(num_classes))


def test_a_class_that_was_not_looked_for_counts_for_nothing() -> None:
    truth = boxes_at([A])
    found = boxes_at([A, B, ELSEWHERE], [0, 1, 1], [0.5, 0.9, 0.8])
    other = (boxes_at([B], [1], [0.4], image_id=2), boxes_at([B], [1], image_id=2))
    assert scores_of([(found, truth), other])["mask_ap"] == 100.0
    # Looked for and not there: two false positives before the right one.
    absent = scores_of([(found, replace(truth, absent=(1,))), other])
    assert per_class(absent) == pytest.approx((100.0, 100 / 3))
    # Class 0 is in the ground truth, so it was looked for.
    double = boxes_at([A, ELSEWHERE], [0, 0], [0.5, 0.9])
    assert scores_of([(double, truth)])["mask_ap"] == pytest.approx(50.0)


def test_an_incomplete_class_has_no_false_positives() -> None:
    truth = boxes_at([A])
    found = boxes_at([A, B, ELSEWHERE], scores=[0.5, 0.9, 0.8])
    complete = scores_of([(found, truth)])
    incomplete = scores_of([(found, replace(truth, incomplete=(0,)))])
    assert complete["mask_ap"] == pytest.approx(100 / 3)
    assert incomplete["mask_ap"] == incomplete["box_ap"] == incomplete["boundary_ap"] == 100.0
    # What is annotated must still be found.
    missed = scores_of([(boxes_at([B], scores=[0.9]), replace(truth, incomplete=(0,)))])
    assert missed["mask_ap"] == 0.0
    # Incomplete in one image only.
    other = (boxes_at([A, B], scores=[0.3, 0.95], image_id=2), boxes_at([A], image_id=2))
    both = scores_of([(found, replace(truth, incomplete=(0,))), other])
    assert both["mask_ap"] == pytest.approx(100 * 2 / 3)  # one wrong, then two right: precision 2 / 3 at all recalls


def test_incomplete_alone_does_not_make_a_class_looked_for() -> None:
    """As in LVIS's code: without an instance in the image, and not among the absent, it was not looked for."""
    found = boxes_at([B], [1], [0.9])
    other = (boxes_at([A], [1], [0.4], image_id=2), boxes_at([A], [1], image_id=2))
    assert scores_of([(found, replace(boxes_at([]), incomplete=(1,))), other])["mask_ap"] == 100.0


def test_the_limit_is_over_all_classes_of_an_image() -> None:
    truth = boxes_at([A, B], [0, 1])
    found = boxes_at([ELSEWHERE, A, B], [3, 0, 1], [0.9, 0.8, 0.7])
    two = scores_of([(found, truth)], 4, max_detections=2)
    assert per_class(two) == (100.0, 0.0)  # the unjudged detection of class 3 took a place
    assert scores_of([(found, truth)], 4, max_detections=3)["mask_ap"] == 100.0
    ties = boxes_at([A, B], [0, 1], [0.5, 0.5])
    assert per_class(scores_of([(ties, truth)], max_detections=1)) == (100.0, 0.0)


def test_frequencies() -> None:
    truth = boxes_at([A, B, ELSEWHERE], [0, 1, 2])
    found = boxes_at([A, B], [0, 1], [0.9, 0.8])
    scores = scores_of([(found, truth)], 4, frequencies=tuple("rcff"))
    assert (scores["mask_ap_rare"], scores["mask_ap_common"], scores["mask_ap_frequent"]) == (100.0, 100.0, 0.0)
    assert scores["mask_ap"] == pytest.approx(200 / 3)
    without = scores_of([(found, truth)], 4)
    assert math.isnan(without["mask_ap_rare"])
    assert without["mask_ap"] == scores["mask_ap"]


def test_nothing_there_is_nan() -> None:
    empty = (boxes_at([], scores=[]), boxes_at([]))
    for entries in ([], [empty], [(boxes_at([A], scores=[0.9]), replace(boxes_at([]), absent=(0,)))]):
        scores = scores_of(entries)
        assert math.isnan(scores["mask_ap"])
        assert math.isnan(scores["boundary_ar_300"])
        assert all(math.isnan(value) for value in per_class(scores, kind="box"))
    assert scores_of([(boxes_at([], scores=[]), boxes_at([A]))])["mask_ap"] == 0.0


def test_everything_looked_for_is_coco() -> None:
    """With every class absent or complete in every image only the limit differs, which is not reached here."""
    rng = np.random.default_rng(5)
    entries = [random_entry(rng, image_id, 3) for image_id in range(8)]
    coco = CocoMetric(settings_of(3, max_detections=100))
    for found, truth in entries:
        coco.update(found, truth)
    expected = coco.compute()
    scores = scores_of([(found, replace(truth, absent=(0, 1, 2), incomplete=())) for found, truth in entries], 3)
    for kind in ("box", "mask", "boundary"):
        assert per_class(scores, 3, kind) == pytest.approx(per_class(expected, 3, kind), nan_ok=True)
        names = [f"{kind}_{name}" for name in ("ap", "ap50", "ap75")]
        assert [scores[name] for name in names] == pytest.approx([expected[name] for name in names])
        assert scores[f"{kind}_ar_300"] == pytest.approx(expected[f"{kind}_ar_100"])
    assert 5 < scores["mask_ap"] < 95


# A slow reference, written from the rules


def random_entry(rng: np.random.Generator, image_id: int, classes: int) -> Entry:
    def box() -> tuple[int, int, int, int]:
        top, left = (int(v) for v in rng.integers(0, 60, 2))
        high, wide = (int(v) for v in rng.integers(5, 60, 2))
        return top, left, min(SIZE[0], top + high), min(SIZE[1], left + wide)

    true = [box() for _ in range(rng.integers(0, 7))]
    true_classes = rng.integers(0, classes, len(true)).tolist()
    found, found_classes = [], []
    for one, label in zip(true, true_classes, strict=True):
        for _ in range(rng.integers(0, 3)):
            top, left, bottom, right = one
            shift = int(rng.integers(0, 4))
            found.append((top + shift, left, max(top + shift + 1, bottom), right))
            found_classes.append(label if rng.random() < 0.8 else int(rng.integers(0, classes)))
    for _ in range(rng.integers(0, 4)):
        found.append(box())
        found_classes.append(int(rng.integers(0, classes)))
    scores = np.round(rng.random(len(found)), 1).tolist()
    absent = [c for c in range(classes) if c not in true_classes and rng.random() < 0.5]
    incomplete = [c for c in range(classes) if rng.random() < 0.3]
    truth = boxes_at(true, true_classes, None, image_id)
    return (
        boxes_at(found, found_classes, scores, image_id),
        replace(truth, absent=tuple(absent), incomplete=tuple(incomplete)),
    )


def reference(entries: Sequence[Entry], label: int, area: tuple[float, float], limit: int) -> float:
    """AP of one class by masks, in percent: plain loops over what LVIS's rules say."""
    values = []
    for iou in np.linspace(0.5, 0.95, 10):
        hits: list[tuple[float, bool]] = []
        positives = 0
        for found, truth in sorted(entries, key=lambda entry: entry[1].image_id):
            best = sorted(range(len(found)), key=lambda i: -found.scores[i])[:limit]
            mine = [i for i in best if found.classes[i] == label]
            objects = [j for j in range(len(truth)) if truth.classes[j] == label]
            if not objects and label not in truth.absent:
                continue
            areas = {j: float(rle_masks.area(truth.masks[j])) for j in objects}
            counted = [j for j in objects if area[0] <= areas[j] <= area[1]]
            positives += len(counted)
            free = set(objects)
            for i in mine:
                overlap = {j: float(rle_masks.iou([found.masks[i]], [truth.masks[j]], [0])[0, 0]) for j in free}
                # An object that counts is preferred, then the higher IoU, then the later one.
                able = [j for j in sorted(free) if overlap[j] >= iou]
                chosen = max(able, key=lambda j: (j in counted, overlap[j], j), default=None)
                if chosen is not None:
                    free.remove(chosen)
                    if chosen in counted:
                        hits.append((found.scores[i], True))
                elif label not in truth.incomplete and area[0] <= rle_masks.area(found.masks[i]) <= area[1]:
                    hits.append((found.scores[i], False))
        if positives == 0:
            return math.nan
        hits.sort(key=lambda hit: -hit[0])
        right = np.cumsum([hit for _, hit in hits])
        precision = right / np.arange(1, len(hits) + 1)
        recall = right / positives
        values += [precision[recall >= level].max(initial=0.0) for level in np.linspace(0, 1, 101)]
    return 100 * float(np.mean(values))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 5), limit=st.sampled_from([1, 3, 300]))
def test_random_scenes_score_as_by_the_rules(seed: int, images: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    entries = [random_entry(rng, int(image_id), 3) for image_id in rng.permutation(50)[:images]]
    scores = scores_of(entries, 3, max_detections=limit)
    expected = [reference(entries, label, (0, 1e10), limit) for label in range(3)]
    np.testing.assert_allclose(per_class(scores, 3), expected, rtol=0, atol=1e-9)
    for ours, area in ((scores["mask_ap_small"], (0, 32**2)), (scores["mask_ap_medium"], (32**2, 96**2))):
        values = [reference(entries, label, area, limit) for label in range(3)]
        known = [value for value in values if not math.isnan(value)]
        np.testing.assert_allclose(ours, np.mean(known) if known else math.nan, rtol=0, atol=1e-9)


def test_names_of_the_numbers() -> None:
    settings = MetricSettings(("cat", "dog"), max_detections=300, frequencies=("r", "c"))
    metric = LvisMetric(settings)
    metric.update(boxes_at([A], scores=[0.9]), boxes_at([A]))
    scores = metric.compute()
    assert scores["mask_ap_rare"] == 100.0
    assert math.isnan(scores["mask_ap_common"])
    assert scores["mask_ap/cat"] == 100.0
    assert math.isnan(scores["mask_ap/dog"])
    of_masks = ("", "50", "75", "_small", "_medium", "_large", "_rare", "_common", "_frequent", "/cat", "/dog")
    expected = {f"{kind}_ap{end}" for kind in ("box", "mask", "boundary") for end in of_masks}
    assert set(scores) == expected | {f"{kind}_ar_300" for kind in ("box", "mask", "boundary")}


def test_what_does_not_belong_together_is_refused() -> None:
    metric = LvisMetric(settings_of(2))
    found, truth = boxes_at([A], scores=[0.9]), boxes_at([A])
    for wrong in (replace(truth, absent=(2,)), replace(truth, incomplete=(2,))):
        with pytest.raises(ValueError, match="image 1: absent and incomplete classes must be 0 to 1, got 2"):
            metric.update(found, wrong)
    with pytest.raises(ValueError, match="predictions are of image 1, ground truth of 2"):
        metric.update(found, boxes_at([A], image_id=2))
    assert len(metric) == 0
    metric.update(found, truth)
    with pytest.raises(ValueError, match="image 1 was added before"):
        metric.update(found, truth)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "class_names must be distinct names, at least one"),
        ({"num_classes": 1, "max_detections": 0}, "max_detections must be at least 1, got 0"),
        ({"num_classes": 1, "boundary_ratio": 1.0}, "boundary_ratio must be between 0 and 1"),
        ({"num_classes": 2, "frequencies": ("r",)}, "frequencies must be one of r, c, f for each of 2 classes"),
        ({"num_classes": 2, "frequencies": ("r", "x")}, "frequencies must be one of r, c, f"),
    ],
)
def test_unusable_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LvisMetric(settings_of(**options))
