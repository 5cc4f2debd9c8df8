"""Every form of a mask gives pycocotools' pixels; what is no mask is refused and never handed on."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_masks

from pointrend.data.segmentations import mask_to_rle, to_mask

SIZE = (23, 31)
masks = arrays.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20)))


def reference(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """As `COCO.annToMask`."""
    if isinstance(segmentation, list):
        rle = coco_masks.merge(coco_masks.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        rle = coco_masks.frPyObjects(segmentation, *size)
    else:
        rle = segmentation
    return coco_masks.decode(rle).astype(bool)


def uncompressed(mask: np.ndarray) -> list[int]:
    runs, value, length = [], False, 0
    for pixel in mask.ravel(order="F"):
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    return [*runs, length]


@given(mask=masks)
def test_all_run_lengths_are_the_mask(mask: np.ndarray) -> None:
    size = (mask.shape[0], mask.shape[1])
    text = mask_to_rle(mask)
    forms = [text, {**text, "counts": text["counts"].encode()}, {"size": list(size), "counts": uncompressed(mask)}]
    for form in [*forms, mask, mask.astype(np.uint8) * 255]:
        assert np.array_equal(to_mask(form, size), mask)
    for form in forms:
        assert np.array_equal(reference(form, size), mask)


@given(
    polygons=st.lists(
        st.lists(st.floats(-10, 40), min_size=6, max_size=12).filter(lambda p: len(p) % 2 == 0), min_size=1, max_size=3
    )
)
def test_polygons_are_drawn_as_pycocotools_draws_them(polygons: list[list[float]]) -> None:
    # Those with all coordinates in 0..1 are refused as normalised.
    assume(all(min(p) < 0 or max(p) > 1 or not np.mod(p, 1).any() for p in polygons))
    assert np.array_equal(to_mask(polygons, SIZE), reference(polygons, SIZE))


def test_parts_that_overlap_are_one_mask() -> None:
    square = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
    assert to_mask([square, square], SIZE).sum() == to_mask([square], SIZE).sum() == 100
    assert not to_mask([], SIZE).any()


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ("abc", "got str"),
        (7, "got int"),
        ([[1, 2, 3, 4]], "three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "three points"),
        ([[1, 2, 3, 4, 5, float("nan")]], "finite"),
        ([[1, 2, 3, 4, 5, 1e9]], "near the image"),
        ([[1, 2, "x", 4, 5, 6]], "list of numbers"),
        ([1, 2, 3], "list of numbers"),
        ({"counts": [1]}, "'size' and 'counts'"),
        ({"size": [31, 23], "counts": [713]}, "the image's size"),
        ({"size": [23, 31], "counts": [712]}, "add up to 713 pixels, got 712"),
        ({"size": [23, 31], "counts": [714, -1]}, "a list of numbers of pixels"),
        ({"size": [23, 31], "counts": [1.5]}, "a list of numbers of pixels"),
        ({"size": [23, 31], "counts": None}, "text, bytes, or a list"),
        ({"size": [23, 31], "counts": "`"}, "middle of a number"),
        ({"size": [23, 31], "counts": "\x00"}, "invalid character in compressed RLE counts"),
        ({"size": [23, 31], "counts": "0"}, "add up to"),
        (np.zeros((31, 23)), "bitmap must have"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        to_mask(segmentation, SIZE)
    assert "\n" not in str(error.value)


@given(counts=st.binary(max_size=12))
def test_damaged_run_lengths_never_reach_beyond_memory(counts: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert to_mask({"size": [5, 7], "counts": counts}, (5, 7)).shape == (5, 7)
