from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage

from pointrend.metrics.coco import ApScores, ImageInstances, InstanceMetrics, InstanceScores, Rle
from pointrend.metrics.faster_coco import boundary_rle

SIZE = (120, 140)
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


def scores_of(pairs: Sequence[Pair], num_classes: int = 1, **options: Any) -> InstanceScores:
    metrics = InstanceMetrics(num_classes, **options)
    for predictions, truth in pairs:
        metrics.update(predictions, truth)
    return metrics.compute()


# pycocotools as the reference


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


def pycocotools_scores(pairs: Sequence[Pair], num_classes: int, limits: Sequence[int], kind: str) -> ApScores:
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
    return ApScores(
        ap=mean(precision[..., 0]),
        ap50=mean(precision[0, ..., 0]),
        ap75=mean(precision[5, ..., 0]),
        ap_small=mean(precision[..., 1]),
        ap_medium=mean(precision[..., 2]),
        ap_large=mean(precision[..., 3]),
        ar={limit: mean(recall[:, :, 0, index]) for index, limit in enumerate(limits)},
        per_class=tuple(mean(precision[:, :, index, 0]) for index in range(num_classes)),
    )


def flat(scores: ApScores) -> list[float]:
    first = [scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_medium, scores.ap_large]
    return [*first, *scores.ar.values(), *scores.per_class]


def assert_as_pycocotools(pairs: Sequence[Pair], num_classes: int, limits: tuple[int, int, int]) -> InstanceScores:
    ours = scores_of(pairs, num_classes, max_detections=limits)
    for kind in ("box", "mask", "boundary"):
        expected = pycocotools_scores(pairs, num_classes, limits, kind)
        np.testing.assert_allclose(flat(getattr(ours, kind)), flat(expected), rtol=0, atol=1e-9, err_msg=kind)
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


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 5),
    classes=st.integers(1, 4),
    regions=st.integers(0, 9),
    limits=st.sampled_from([(1, 10, 100), (1, 2, 3), (1, 100, 400)]),
    size=st.sampled_from([SIZE, (60, 45), (3, 150), (150, 110)]),
)
def test_random_scenes_score_as_by_pycocotools(
    seed: int, images: int, classes: int, regions: int, limits: tuple[int, int, int], size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.permutation(100)[:images].tolist()
    pairs = [random_pair(rng, image_id, classes, int(rng.integers(0, regions + 1)), size) for image_id in ids]
    assert_as_pycocotools(pairs, classes, limits)


def test_random_scenes_are_neither_all_right_nor_all_wrong() -> None:
    """What the comparison above compares is not trivial."""
    rng = np.random.default_rng(0)
    scores = assert_as_pycocotools([random_pair(rng, i, 3, 9, (150, 110)) for i in range(12)], 3, (1, 10, 100))
    for kind in (scores.box, scores.mask, scores.boundary):
        assert 5 < kind.ap < 90
        assert kind.ap75 < kind.ap50
        assert kind.ar[1] < kind.ar[10]
    assert scores.boundary.ap < scores.mask.ap


def test_many_detections_of_one_class() -> None:
    """More than a hundred objects: only the largest of the limits decides about AP."""
    masks = [square(10 * (i // 14), 10 * (i % 14), 8, 8) for i in range(168)]
    scores = np.linspace(0.9, 0.1, len(masks)).tolist()
    pair = (instances(masks, scores=scores), instances(masks))
    few, many = (assert_as_pycocotools([pair], 1, limits) for limits in ((1, 10, 100), (1, 100, 400)))
    assert few.mask.ar == pytest.approx({1: 100 / 168, 10: 1000 / 168, 100: 10000 / 168})
    assert few.mask.ap == pytest.approx(100 * 60 / 101)  # recall stops at 100 / 168: thresholds 0 to 0.59 of 101
    assert many.mask.ap == many.boundary.ap == many.box.ap == 100.0
    assert many.mask.ar == pytest.approx({1: 100 / 168, 100: 10000 / 168, 400: 100})


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)) | st.sampled_from([(75, 100), (60, 45), (2, 142), (30, 40)]),
    share=st.sampled_from([0.005, 0.02, 0.1, 0.3]),
)
def test_boundary_is_mask_without_its_erosion(seed: int, size: tuple[int, int], share: float) -> None:
    """Also in images thinner than the bands, and where the width is half a pixel from an integer."""
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size), 3) > -0.02
    width = max(1, round(share * math.hypot(*size)))
    eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0)
    band = rle_masks.decode(boundary_rle(encode(mask), share))
    np.testing.assert_array_equal(band.astype(bool), mask & ~eroded)


def test_by_hand() -> None:
    """Two objects; the first detection finds one with IoU 0.8, the second finds nothing, the third the other."""
    truth = instances([square(0, 0, 10, 10), square(50, 50, 10, 10)])
    found = instances(
        [square(0, 0, 8, 10), square(80, 80, 10, 10), square(50, 50, 10, 10)],
        scores=[0.9, 0.8, 0.7],
    )
    for scores in (scores_of([(found, truth)]).mask, scores_of([(found, truth)]).box):
        # Up to IoU 0.8: precision 1 up to recall 0.5 (thresholds 0 to 0.5, 51 of them), then 2 / 3.
        low = (51 + 50 * 2 / 3) / 101
        # Over 0.8 only the last is right: precision 1 / 3 up to recall 0.5.
        high = 51 / 3 / 101
        assert scores.ap50 == scores.ap75 == pytest.approx(100 * low)
        assert scores.ap == pytest.approx(10 * (7 * low + 3 * high))
        assert scores.ar[1] == pytest.approx(10 * 7 * 0.5)
        assert scores.ar[10] == scores.ar[100] == pytest.approx(10 * (7 * 1.0 + 3 * 0.5))
        assert scores.ap_small == scores.ap
        assert math.isnan(scores.ap_medium)
        assert math.isnan(scores.ap_large)
        assert scores.per_class == (scores.ap,)


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
    assert scores.boundary.ap == pytest.approx(40.0)  # right at 0.5 to 0.65
    assert scores.mask.ap == pytest.approx(80.0)  # 56² / 60² = 0.871
    wide = scores_of(
        [(instances([found], scores=[1.0], size=size), instances([truth], size=size))], boundary_share=0.06
    )
    assert wide.boundary.ap == wide.mask.ap  # bands of 30 pixels cover the squares


def test_crowds_are_neither_found_nor_missed() -> None:
    crowd = square(40, 0, 40, 140)
    truth = instances([square(0, 0, 20, 20), crowd], crowd=[False, True])
    inside = [square(45, 10 * i, 10, 10) for i in range(5)]
    found = instances([square(0, 0, 20, 20), *inside], scores=[0.5, *[0.9] * 5])
    scores = assert_as_pycocotools([(found, truth)], 1, (1, 10, 100))
    assert scores.mask.ap == scores.box.ap == scores.boundary.ap == 100.0
    alone = instances([crowd], crowd=[True])
    assert math.isnan(scores_of([(instances(inside, scores=[0.9] * 5), alone)]).mask.ap)
    outside = instances([square(0, 0, 20, 20), square(100, 0, 10, 10)], scores=[0.5, 0.9])
    assert scores_of([(outside, truth)]).mask.ap == pytest.approx(50.0)


@pytest.mark.parametrize("kind", ["box", "mask", "boundary"])
def test_sizes_are_those_of_the_annotations(kind: str) -> None:
    masks = [square(0, 0, 30, 30), square(40, 0, 40, 40), square(0, 35, 110, 100)]
    found = instances(masks, scores=[1.0, 1.0, 1.0])
    own = getattr(scores_of([(found, instances(masks))]), kind)
    assert own.ap_small == own.ap_medium == own.ap_large == 100.0
    # The first one is large by its annotation, so there is no small object, and two large ones.
    annotated = getattr(scores_of([(found, instances(masks, areas=[1e5, 1600, 1e5]))]), kind)
    assert math.isnan(annotated.ap_small)
    assert annotated.ap_large == annotated.ap_medium == 100.0
    only = instances(masks[1:], scores=[1.0, 1.0])
    half = getattr(scores_of([(only, instances(masks, areas=[1e5, 1600, 1e5]))]), kind)
    assert half.ap_large == pytest.approx(100 * 51 / 101)


def test_nothing_there_is_nan_and_nothing_found_is_zero() -> None:
    nothing, one = instances([]), instances([square(0, 0, 10, 10)])
    no_prediction = instances([], scores=[])
    for pairs in ([], [(no_prediction, nothing)], [(instances([square(0, 0, 9, 9)], scores=[0.9]), nothing)]):
        scores = scores_of(pairs, 3)
        for kind in (scores.box, scores.mask, scores.boundary):
            assert all(math.isnan(value) for value in flat(kind))
            assert len(kind.per_class) == 3
    scores = scores_of([(no_prediction, one)], 3)
    for kind in (scores.box, scores.mask, scores.boundary):
        assert (kind.ap, kind.ap50, kind.ap_small, kind.ar) == (0.0, 0.0, 0.0, {1: 0.0, 10: 0.0, 100: 0.0})
        assert kind.per_class[0] == 0.0
        assert all(math.isnan(value) for value in (kind.ap_large, *kind.per_class[1:]))


def test_classes_that_do_not_occur_weigh_nothing() -> None:
    mask = square(0, 0, 10, 10)
    found = instances([mask, square(50, 50, 20, 20)], [2, 0], scores=[0.9, 0.95])
    scores = scores_of([(found, instances([mask], [2]))], 5)
    assert scores.mask.ap == 100.0
    assert [math.isnan(value) for value in scores.mask.per_class] == [True, True, False, True, True]


def test_empty_masks_and_boxes_of_no_area_match_nothing() -> None:
    truth = instances([square(0, 0, 10, 10), square(0, 0, 0, 0)])
    found = instances([square(0, 0, 10, 10), square(0, 0, 0, 0)], scores=[0.9, 0.8])
    scores = assert_as_pycocotools([(found, truth)], 1, (1, 10, 100))
    assert scores.mask.ap == pytest.approx(100 * 51 / 101)


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
    assert flat(scores_of(narrow, 2).box) == pytest.approx(flat(forwards.box), nan_ok=True)


def test_computing_twice_and_going_on() -> None:
    rng = np.random.default_rng(4)
    pairs = [random_pair(rng, image_id, 2, 8, (60, 45)) for image_id in range(6)]
    metrics = InstanceMetrics(2)
    for pair in pairs[:3]:
        metrics.update(*pair)
    assert len(metrics) == 3
    assert metrics.compute() == metrics.compute() == scores_of(pairs[:3], 2)
    for pair in pairs[3:]:
        metrics.update(*pair)
    assert metrics.compute() == scores_of(pairs, 2)


def test_it_is_silent(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    mask = square(0, 0, 10, 10)
    scores_of([(instances([mask], scores=[0.9]), instances([mask]))])
    assert capfd.readouterr() == ("", "")
    assert not recwarn


def test_json() -> None:
    mask = square(0, 0, 10, 10)
    scores = scores_of([(instances([mask], [1], scores=[0.9]), instances([mask], [1]))], 2)
    content = json.loads(json.dumps(scores.to_dict(["cat", "dog"]), allow_nan=False))
    assert set(content) == {"box", "mask", "boundary"}
    assert content["mask"] == {
        "ap": 100.0,
        "ap50": 100.0,
        "ap75": 100.0,
        "ap_small": 100.0,
        "ap_medium": None,
        "ap_large": None,
        "ar": {"1": 100.0, "10": 100.0, "100": 100.0},
        "per_class": {"cat": None, "dog": 100.0},
    }
    for names in (["cat"], ["cat", "cat"], ["cat", "dog", "cow"]):
        with pytest.raises(ValueError, match="expected 2 distinct class names"):
            scores.to_dict(names)


def test_what_does_not_belong_together_is_refused_and_not_counted() -> None:
    mask = square(0, 0, 10, 10)
    truth, found = instances([mask]), instances([mask], scores=[0.5])
    metrics = InstanceMetrics(2)
    with pytest.raises(ValueError, match="predictions are of image 2, ground truth of 1"):
        metrics.update(instances([mask], scores=[0.5], image_id=2), truth)
    with pytest.raises(ValueError, match=r"image 1: predictions are for size \(9, 9\), ground truth for \(120, 140\)"):
        metrics.update(instances([square(0, 0, 3, 3, (9, 9))], scores=[0.5], size=(9, 9)), truth)
    with pytest.raises(ValueError, match="image 1: predictions need scores, got None"):
        metrics.update(truth, truth)
    with pytest.raises(ValueError, match="image 1: predicted classes must be 0 to 1, got 2"):
        metrics.update(instances([mask], [2], scores=[0.5]), truth)
    with pytest.raises(ValueError, match="image 1: true classes must be 0 to 1, got -1"):
        metrics.update(found, instances([mask], [-1]))
    assert len(metrics) == 0
    metrics.update(found, truth)
    with pytest.raises(ValueError, match="image 1 was added before"):
        metrics.update(found, truth)
    assert metrics.compute().mask.ap == 100.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"num_classes": 1, "boundary_share": 0}, "boundary_share must be between 0 and 1, got 0"),
        ({"num_classes": 1, "max_detections": (1, 100, 10)}, "must be positive and rising"),
        ({"num_classes": 1, "max_detections": (0, 1, 10)}, "must be positive and rising"),
        ({"num_classes": 1, "max_detections": ()}, "must be positive and rising"),
    ],
)
def test_unusable_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstanceMetrics(**options)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pointrend.metrics.faster_coco", raising=False)
    monkeypatch.delattr("pointrend.metrics.faster_coco", raising=False)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ImportError, match=r"pip install 'pointrend\[train\]'"):
        InstanceMetrics(1).compute()


# Real annotations


def load_coco(path: Path) -> tuple[list[ImageInstances], list[int]]:
    """The ground truth of a COCO file by pycocotools alone, and its category ids."""
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO(str(path))
    categories = sorted(dataset.getCatIds())
    images = []
    for image_id, entry in dataset.imgs.items():
        annotations = dataset.imgToAnns[image_id]
        rles = [dataset.annToRLE(one) for one in annotations]
        boxes = np.array([one["bbox"] for one in annotations], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        images.append(
            ImageInstances(
                image_id=image_id,
                size=(entry["height"], entry["width"]),
                boxes=boxes,
                classes=np.array([categories.index(one["category_id"]) for one in annotations], dtype=np.int64),
                masks=[{"size": list(rle["size"]), "counts": rle["counts"].decode()} for rle in rles],
                crowd=np.array([bool(one["iscrowd"]) for one in annotations], dtype=bool),
                areas=np.array([one["area"] for one in annotations], dtype=np.float64),
            )
        )
    return images, categories


def as_predictions(truth: ImageInstances, kept: np.ndarray, scores: np.ndarray) -> ImageInstances:
    index = np.flatnonzero(kept)
    masks = [truth.masks[i] for i in index]
    return ImageInstances(truth.image_id, truth.size, truth.boxes[index], truth.classes[index], masks, scores[index])


def test_ground_truth_of_coco_scores_exactly_100(test_data: Path) -> None:
    images, categories = load_coco(test_data / "coco" / "annotations" / "instances_val.json")
    crowds = sum(int(image.crowd.sum()) for image in images if image.crowd is not None)
    assert crowds > 0
    rng = np.random.default_rng(0)
    for with_crowds in (False, True):
        pairs = [
            (as_predictions(t, np.full(len(t), True) if with_crowds else ~t.crowd, rng.random(len(t))), t)
            for t in images
        ]
        scores = scores_of(pairs, len(categories), max_detections=(1, 10, 400))
        for kind in (scores.box, scores.mask, scores.boundary):
            assert kind.ap == kind.ap50 == kind.ap75 == kind.ap_small == kind.ap_medium == kind.ap_large == 100.0
            assert kind.ar[400] == 100.0


def test_disturbed_ground_truth_of_coco_scores_as_by_pycocotools(test_data: Path) -> None:
    images, categories = load_coco(test_data / "coco" / "annotations" / "instances_val.json")
    rng = np.random.default_rng(1)
    pairs = []
    for truth in images[:40]:
        found = as_predictions(truth, rng.random(len(truth)) < 0.8, rng.random(len(truth)))
        masks = [np.roll(rle_masks.decode(mask), rng.integers(-3, 4, 2), (0, 1)) for mask in found.masks]
        shift = rng.normal(0, 4, found.boxes.shape)
        pairs.append((replace(found, boxes=found.boxes + shift, masks=[encode(mask) for mask in masks]), truth))
    scores = assert_as_pycocotools(pairs, len(categories), (1, 10, 100))
    assert 10 < scores.boundary.ap < scores.mask.ap < 90
