"""The trimap curve, against distances computed in another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_cdt

from pointrend.report.trimap import WIDTHS, TrimapCounts, boundary_bands, mean_iou


def expected_bands(truth: np.ndarray) -> np.ndarray:
    """By scipy: a pixel's distance to the nearest pixel of another class, ignored ones left out."""
    distance = np.full(truth.shape, 10**6)
    for label in np.unique(truth):
        others = (truth != label) & (truth != 255)
        if label != 255 and others.any():
            to_others = distance_transform_cdt(~others, metric="chessboard")
            distance[truth == label] = to_others[truth == label]
    return np.searchsorted(WIDTHS, distance)


LABELS = arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.sampled_from([0, 1, 2, 255]))


@given(LABELS)
def test_bands_are_distances_to_other_classes(truth: np.ndarray) -> None:
    counted = truth != 255
    assert np.array_equal(boundary_bands(truth)[counted], expected_bands(truth)[counted])


def test_a_plane_has_no_boundary_and_its_border_is_none() -> None:
    assert (boundary_bands(np.ones((20, 30), np.uint8)) == len(WIDTHS)).all()


@given(LABELS, st.integers(0, 2**32 - 1))
def test_counts_are_those_of_each_band(truth: np.ndarray, seed: int) -> None:
    prediction = np.random.default_rng(seed).integers(0, 3, truth.shape).astype(np.uint8)
    counts, bands = TrimapCounts(3), expected_bands(truth)
    counts.update(prediction, truth, bands.astype(np.uint8))
    for index in range(len(WIDTHS)):
        inside = (bands <= index) & (truth != 255)
        expected = np.zeros((3, 3), np.int64)
        np.add.at(expected, (truth[inside], prediction[inside]), 1)
        assert np.array_equal(counts.confusion[index], expected)


def test_the_curve_is_lowest_at_the_boundary_where_only_that_is_wrong() -> None:
    truth = np.zeros((64, 64), np.uint8)
    truth[:, 32:] = 1
    shifted = np.roll(truth, 1, axis=1)
    shifted[:, 0] = 0
    counts = TrimapCounts(2)
    counts.update(shifted, truth, boundary_bands(truth))
    curve = counts.miou()
    # Of 2 w columns near the boundary, one is wrong.
    assert curve[0] == pytest.approx(100 * (1 / 2 + 0) / 2)
    assert curve[1] == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)
    assert curve == sorted(curve)


def test_mean_iou_is_over_the_classes_that_occur() -> None:
    assert mean_iou(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])) == pytest.approx(100 * (3 / 4 + 4 / 5) / 2)
    assert math.isnan(mean_iou(np.zeros((2, 2), np.int64)))
