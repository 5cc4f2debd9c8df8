"""Instances as a result: masks made when asked for, ids, table, pictures, files."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_masks

from pointrend.core.pasting import paste_mask
from pointrend.data.classes import ClassInfo
from pointrend.data.segmentations import to_mask
from pointrend.results import InstanceResult, LazyMasks, is_ours
from pointrend.viz import draw_instances

CLASSES = (ClassInfo("cat", (250, 10, 20)), ClassInfo("dog", (9, 200, 7)))
SIZE = (40, 60)


def disc(side: int) -> np.ndarray:
    """Probabilities of a disc that fills its box."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    return (1 / (1 + np.exp(40 * (np.hypot(x, y) - 0.45)))).astype(np.float32)


def masks_of(boxes: list[list[float]], *, size: tuple[int, int] = SIZE, side: int = 28) -> LazyMasks:
    return LazyMasks(np.stack([disc(side)] * len(boxes)), np.array(boxes, np.float32), size)


def result(
    boxes: list[list[float]], scores: list[float], classes: list[int], path: Path | None = None
) -> InstanceResult:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    return InstanceResult(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        labels=np.array(classes, np.int64),
        masks=masks_of(boxes) if boxes else LazyMasks(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4)), SIZE),
        classes=CLASSES,
        image=image,
        path=path,
    )


corner = st.floats(-30, 70)
boxes_anywhere = st.tuples(corner, corner, st.floats(0, 60), st.floats(0, 60)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


@settings(max_examples=60)
@given(box=boxes_anywhere, paste=st.sampled_from(("area", "bilinear")), seed=st.integers(0, 99))
def test_everything_in_the_box_is_what_the_full_mask_says(box: list[float], paste: str, seed: int) -> None:
    random = np.random.default_rng(seed).random((1, 7, 7)).astype(np.float32)
    masks = LazyMasks(random, np.array([box]), SIZE, paste=paste)  # type: ignore[arg-type]
    full = masks[0]
    assert full.shape == SIZE
    (left, top, right, bottom), values = paste_mask(torch.from_numpy(random[0]), torch.tensor(box), SIZE, mode=paste)  # type: ignore[arg-type]
    assert np.array_equal(full[top:bottom, left:right], (values >= 0.5).numpy())
    assert full.sum() == full[top:bottom, left:right].sum() == masks.area(0)
    assert masks.rle(0) == {
        "size": list(SIZE),
        "counts": coco_masks.encode(np.asfortranarray(full.astype(np.uint8)))["counts"].decode(),
    }


@settings(max_examples=60)
@given(box=boxes_anywhere, seed=st.integers(0, 99))
def test_polygons_give_the_pixels_back_but_for_holes(box: list[float], seed: int) -> None:
    from scipy.ndimage import binary_fill_holes

    random = np.random.default_rng(seed).random((1, 5, 5)).astype(np.float32)
    masks = LazyMasks(random, np.array([box]), SIZE)
    filled = binary_fill_holes(masks[0])
    # Parts that touch at a corner enclose what 4-neighbours call outside.
    assert (to_mask(masks.polygons(0), SIZE) & masks[0]).sum() == masks[0].sum()
    if masks[0].any():
        assert (to_mask(masks.polygons(0), SIZE) ^ filled).sum() <= 0.05 * filled.sum() + 2


def test_a_thousand_masks_in_a_large_photograph_take_little_memory() -> None:
    """At full size they were 8 GB."""
    size = (2160, 3840)
    random = np.random.default_rng(0)
    corners = random.uniform(0, 2000, (1000, 2))
    boxes = np.concatenate((corners, corners + random.uniform(5, 60, (1000, 2))), axis=1).astype(np.float32)
    probabilities = np.stack([disc(28)] * 1000)
    tracemalloc.start()
    masks = LazyMasks(probabilities, boxes, size)
    for index in range(len(masks)):
        masks.rle(index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert masks[999].shape == size


def test_as_a_sequence() -> None:
    masks = masks_of([[0, 0, 10, 10], [10, 10, 30, 30], [5, 5, 6, 6]])
    assert len(masks) == len(list(masks)) == 3
    assert np.array_equal(masks[-2], masks[1])
    assert len(masks[1:]) == 2
    assert np.array_equal(masks[1:][0], masks[1])
    assert np.array_equal(masks[np.array([False, True, False])][0], masks[1])
    with pytest.raises(IndexError, match="3 masks"):
        masks[3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"probabilities": np.zeros((2, 3, 4), np.float32)}, r"\(R, M, M\)"),
        ({"boxes": np.zeros((3, 4))}, r"boxes \(R, 4\)"),
        ({"probabilities": np.zeros((2, 3, 3), np.int64)}, "floating type, got int64"),
        ({"boxes": np.array([[0, 0, 1, 1], [0, 0, np.nan, 1]])}, "finite"),
        ({"paste": "nearest"}, "one of bilinear, area"),
        ({"threshold": 0.0}, "over 0"),
    ],
)
def test_masks_that_are_none(change: dict[str, object], said: str) -> None:
    fields = {"probabilities": np.zeros((2, 3, 3), np.float32), "boxes": np.zeros((2, 4)), "size": SIZE} | change
    with pytest.raises(ValueError, match=said):
        LazyMasks(**fields)  # type: ignore[arg-type]


def test_ids_give_pixels_to_the_smaller_object_and_of_equal_ones_to_the_better() -> None:
    found = result([[10, 10, 30, 30], [20, 10, 38, 28], [10, 10, 30, 30]], [0.9, 0.8, 0.7], [0, 1, 1])
    assert found.ids.dtype == np.uint16
    assert np.array_equal(found.ids == 2, found.masks[1])
    assert np.array_equal(found.ids == 1, found.masks[0] & ~found.masks[1])
    assert not (found.ids == 3).any()
    rows = found.table()
    assert [(r.id, r.class_name, r.area) for r in rows] == [
        (1, "cat", int((found.ids == 1).sum())), (2, "dog", found.masks.area(1)), (3, "dog", 0),
    ]  # fmt: skip
    assert rows[0].centroid[0] < 20
    assert rows[1].centroid == pytest.approx((29, 19))
    assert rows[2].centroid == (20, 20)


def test_visible_objects_are_those_with_an_id() -> None:
    found = result(
        [[5, 5, 35, 35], [10, 10, 20, 20], [10, 10, 20, 20], [50, 50, 50, 50], [40, 5, 55, 20]],
        [0.9, 0.8, 0.7, 0.6, 0.55],
        [0, 1, 0, 1, 0],
    )
    seen = found.visible()
    assert seen.scores.tolist() == pytest.approx([0.9, 0.8, 0.55])  # a small one inside of a large one is kept
    assert seen.notes == ("1 object is left out, because others cover all of it",)  # an empty mask is no object
    assert np.unique(seen.ids).tolist() == [0, 1, 2, 3]
    assert np.array_equal(seen.ids, seen[np.arange(3)].ids)  # those that were cached are right
    assert len(seen.table()) == len(seen.summary()["instances"]) == len(seen)  # type: ignore[arg-type]
    assert all(row.area for row in seen.table())
    assert seen.visible() is seen
    assert seen.noted(()) is seen  # what was computed is kept
    assert seen.noted(("a",)).notes == ("a", *seen.notes)


def test_only_better_ones() -> None:
    found = result([[10, 10, 30, 30], [20, 10, 40, 30]], [0.9, 0.4], [0, 1]).above(0.5)
    assert (len(found), len(found.masks), found.labels.tolist()) == (1, 1, [0])


def test_coco_results() -> None:
    found = result([[10, 10, 30, 25]], [0.75], [1])
    (one,) = found.coco(17, (3, 18))
    assert (one["image_id"], one["category_id"], one["score"], one["bbox"]) == (17, 18, 0.75, [10, 10, 20, 15])
    assert np.array_equal(to_mask(one["segmentation"], SIZE), found.masks[0])  # type: ignore[arg-type]


def test_files(tmp_path: Path) -> None:
    photo = tmp_path / "in" / "photo.png"
    photo.parent.mkdir()
    found = result([[10, 10, 30, 30], [30, 10, 50, 30]], [0.9, 0.8], [0, 1], path=photo)
    paths = found.save(tmp_path / "out")
    assert [p.name for p in paths] == ["photo.png", "photo_overlay.png", "photo.csv", "photo.json"]
    assert all(is_ours(p) for p in paths)
    with Image.open(paths[0]) as ids:
        assert ids.mode == "I;16"
        assert np.array_equal(np.asarray(ids), found.ids)
    with paths[2].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "class", "score", "area", "x0", "y0", "x1", "y1", "centroid_x", "centroid_y"]
    assert (rows[0]["id"], rows[0]["class"], rows[0]["score"], rows[0]["x1"]) == ("1", "cat", "0.9000", "30.00")
    summary = json.loads(paths[3].read_text())
    assert [(c["name"], c["count"]) for c in summary["classes"]] == [("cat", 1), ("dog", 1)]
    assert np.array_equal(to_mask(summary["instances"][1]["mask"], SIZE), found.masks[1])
    with pytest.raises(ValueError, match="would replace the image"):
        found.save(photo.parent)


def test_nothing_found(tmp_path: Path) -> None:
    found = result([], [], [])
    assert not found.ids.any()
    assert found.table() == []
    assert found.coco(1, (1, 2)) == []
    paths = found.save(tmp_path, stem="empty")
    assert json.loads(paths[3].read_text())["instances"] == []
    assert np.array_equal(np.asarray(found.overlay())[: SIZE[0], : SIZE[1]], found.image)


def test_more_ids_than_16_bits_hold() -> None:
    boxes = np.zeros((65536, 4), np.float32)
    many = InstanceResult(
        boxes=boxes,
        scores=np.ones(65536, np.float32),
        labels=np.zeros(65536, np.int64),
        masks=LazyMasks(np.zeros((65536, 1, 1), np.float32), boxes, SIZE),
        classes=CLASSES,
        image=np.zeros((*SIZE, 3), np.uint8),
    )
    with pytest.raises(ValueError, match="65535 ids, there are 65536"):
        _ = many.ids


def test_outlines_lie_on_the_object_and_change_nothing_else() -> None:
    found = result([[10, 10, 30, 30]], [0.9], [0])
    crops = [found.masks.crop(0)]
    picture = np.asarray(draw_instances(found.image, crops, [0], CLASSES[:1]))
    changed = (picture != found.image).any(axis=2)
    inside = found.masks[0]
    assert changed.any()
    assert not (changed & ~inside).any()
    eroded = inside[1:-1, 1:-1] & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    assert not (changed[1:-1, 1:-1] & eroded).any()  # of one class, only the outline is drawn
    legend = draw_instances(found.image, crops, [0], CLASSES)
    assert legend.size[0] >= SIZE[1]
    assert legend.size[1] > SIZE[0]
    # Of several, the tint is the one that the legend shows.
    of_class = [np.asarray(draw_instances(found.image, crops, [i], CLASSES, alpha=1.0)) for i in (0, 1)]
    assert of_class[0][20, 20].tolist() == [250, 10, 20]
    assert of_class[1][20, 20].tolist() == [9, 200, 7]
