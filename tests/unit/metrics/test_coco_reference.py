"""COCO's scores against pycocotools, on random scenes and on real annotations."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from coco_scenes import (
    KINDS,
    SIZE,
    assert_as_pycocotools,
    encode,
    random_pair,
    scores_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle_masks
from pycocotools.coco import COCO
from scipy import ndimage

from pointrend.metrics._faster_coco import boundary_rle
from pointrend.metrics.instances import ImageInstances


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
    for kind in KINDS:
        assert 5 < scores[f"{kind}_ap"] < 90
        assert scores[f"{kind}_ap75"] < scores[f"{kind}_ap50"]
        assert scores[f"{kind}_ar_1"] < scores[f"{kind}_ar_10"]
    assert scores["boundary_ap"] < scores["mask_ap"]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)) | st.sampled_from([(75, 100), (60, 45), (2, 142), (30, 40)]),
    ratio=st.sampled_from([0.005, 0.02, 0.1, 0.3]),
)
def test_boundary_is_mask_without_its_erosion(seed: int, size: tuple[int, int], ratio: float) -> None:
    """Also in images thinner than the bands, and where the width is half a pixel from an integer."""
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size), 3) > -0.02
    width = max(1, round(ratio * math.hypot(*size)))
    eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0)
    band = rle_masks.decode(boundary_rle(encode(mask), ratio))
    np.testing.assert_array_equal(band.astype(bool), mask & ~eroded)


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
        scores = scores_of(pairs, len(categories), limits=(1, 10, 400))
        for kind in KINDS:
            for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_400"):
                assert scores[f"{kind}_{name}"] == 100.0


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
    assert 10 < scores["boundary_ap"] < scores["mask_ap"] < 90
