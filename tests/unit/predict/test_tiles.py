"""Objects of large images, found in tiles: none is lost at the seams, and none counts twice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pointrend.data.classes import ClassInfo
from pointrend.predict.tiles import merged, tiles_of
from pointrend.results import InstanceResult, LazyMasks
from pointrend.spec import InstanceTest

TEST = InstanceTest(scale=2.0, longest=200)  # tiles of 100 pixels
CLASSES = (ClassInfo("cell", (255, 0, 0)), ClassInfo("wall", (0, 255, 0)))


@pytest.mark.parametrize("size", [(100, 100), (101, 30), (250, 100), (777, 431), (1, 5000)])
def test_tiles_cover_the_image_and_overlap(size: tuple[int, int]) -> None:
    tiles = tiles_of(size, TEST)
    count = np.zeros(size, int)
    for left, top, right, bottom in tiles:
        assert 0 <= left < right <= size[1]
        assert 0 <= top < bottom <= size[0]
        assert max(right - left, bottom - top) <= 100
        count[top:bottom, left:right] += 1
    assert count.min() == 1
    starts = sorted({left for left, *_ in tiles})
    assert all(b - a <= 88 for a, b in pairwise(starts))  # an eighth of overlap
    assert (len(tiles) == 1) == (max(size) <= 100)


def test_models_without_a_fixed_scale_see_the_whole_image() -> None:
    assert tiles_of((5000, 3000), InstanceTest()) == [(0, 0, 3000, 5000)]


def found_in(tile: tuple[int, int, int, int], objects: list[tuple[float, ...]]) -> InstanceResult:
    """What a perfect detector finds in a tile: boxes (xyxy, score, label) cut at its edges."""
    left, top, right, bottom = tile
    rows = []
    for x0, y0, x1, y1, score, label in objects:
        cut = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
        if cut[0] < cut[2] and cut[1] < cut[3]:
            whole = cut == (x0, y0, x1, y1)
            rows.append((*(np.array(cut) - [left, top, left, top]), score if whole else score + 0.05, label))
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = table[:, :4].copy()
    return InstanceResult(
        boxes=boxes,
        scores=table[:, 4].copy(),
        labels=table[:, 5].astype(np.int64),
        masks=LazyMasks(np.ones((len(table), 4, 4), np.float32), boxes, (bottom - top, right - left)),
        classes=CLASSES,
        image=np.zeros((bottom - top, right - left, 3), np.uint8),
        notes=("limited",) if len(table) > 3 else (),
    )


def merge(size: tuple[int, int], objects: list[tuple[float, ...]]) -> InstanceResult:
    tiles = tiles_of(size, TEST)
    pixels = np.zeros((*size, 3), np.uint8)
    return merged([found_in(tile, objects) for tile in tiles], tiles, pixels, 0.5)


def test_every_object_is_found_once_and_whole() -> None:
    random = np.random.default_rng(0)
    objects = []
    for row in range(16):
        for column in range(11):
            x, y = 25 * column + float(random.integers(0, 12)), 25 * row + float(random.integers(0, 12))
            objects.append((x, y, x + 10, y + 10, float(random.uniform(0.5, 0.9)), float(random.integers(2))))
    result = merge((420, 300), objects)
    expected = np.array(sorted(objects, key=lambda one: -one[4]), np.float32)
    np.testing.assert_allclose(result.boxes, expected[:, :4])
    np.testing.assert_allclose(result.scores, expected[:, 4])
    assert result.labels.tolist() == expected[:, 5].astype(int).tolist()
    assert len(np.unique(result.ids)) == len(objects) + 1
    assert result.notes == ("limited",)
    assert result.image.shape == (420, 300, 3)


def test_an_object_larger_than_the_overlap_is_kept_though_cut() -> None:
    result = merge((100, 250), [(60.0, 20.0, 140.0, 60.0, 0.9, 0.0)])
    assert len(result) >= 1
    assert result.ids[40, 70] > 0
    assert result.ids[40, 130] > 0


def test_objects_of_other_classes_do_not_cover_each_other() -> None:
    both = [(90.0, 20.0, 98.0, 28.0, 0.9, 0.0), (90.0, 20.0, 98.0, 28.0, 0.8, 1.0)]
    assert merge((100, 250), both).labels.tolist() == [0, 1]


def test_nothing_found() -> None:
    assert len(merge((100, 250), [])) == 0


def test_tiles_have_a_smallest_size() -> None:
    """A model file may ask for a scale of 16 and 32 pixels: a photograph would be a million tiles."""
    assert tiles_of((4000, 3000), InstanceTest(scale=16, longest=32)) == [(0, 0, 3000, 4000)]
