from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from pointrend.metrics.boundary import band_counts, boundary_band, boundary_width, contour_counts


@pytest.mark.parametrize(
    ("size", "ratio", "width"),
    [
        ((300, 400), 0.005, 2),  # diagonal 500: 2.5 rounds to the even 2
        ((300, 400), 0.02, 10),
        ((1024, 2048), 0.005, 11),  # 11.4
        ((550, 825), 0.005, 5),  # 4.96
        ((1, 1), 0.005, 1),  # never under one pixel
    ],
)
def test_width_is_a_ratio_of_the_diagonal(size: tuple[int, int], ratio: float, width: int) -> None:
    assert boundary_width(size, ratio) == width


def test_contour_of_a_hand_drawn_map() -> None:
    labels = torch.zeros(7, 7, dtype=torch.int64)
    labels[:, 4:] = 1
    expected = torch.tensor([[1] * 7, *[[1, 0, 0, 1, 1, 0, 1]] * 5, [1] * 7]).bool()
    assert torch.equal(boundary_band(labels, 1), expected)


def test_corners_touch_diagonally() -> None:
    labels = torch.zeros(5, 5, dtype=torch.uint8)
    labels[0, 0] = 1
    assert boundary_band(labels, 1)[1, 1]  # sees the other label only over the corner
    assert not boundary_band(labels, 1)[2, 2]


def test_image_border_is_boundary() -> None:
    band = boundary_band(torch.zeros(9, 11, dtype=torch.int32), 3)
    assert not band[3:6, 3:8].any()
    assert band.sum() == 9 * 11 - 3 * 5


@pytest.mark.parametrize("size", [(1, 20), (20, 1), (6, 40), (1, 1)])
def test_all_of_a_thin_image_is_boundary(size: tuple[int, int]) -> None:
    assert boundary_band(torch.zeros(size, dtype=torch.uint8), 3).all()


@pytest.mark.parametrize("width", [1, 2, 5, 9])
def test_band_is_mask_without_its_erosion(width: int) -> None:
    labels = _blobs(70, 53, classes=5, seed=width)
    expected = np.zeros(labels.shape, dtype=bool)
    for label in np.unique(labels):
        mask = labels == label
        eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0)
        expected |= mask & ~eroded
    band = boundary_band(torch.from_numpy(labels), width).numpy()
    np.testing.assert_array_equal(band, expected)
    assert band.any()
    assert width > 5 or not band.all()


def test_unusable_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels must be \(H, W\), got \(1, 4, 4\)"):
        boundary_band(torch.zeros(1, 4, 4, dtype=torch.uint8), 1)
    with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
        boundary_band(torch.zeros(4, 4, dtype=torch.uint8), 0)


def test_band_counts_by_hand() -> None:
    """9x9, target 5x5 square at (2, 2), prediction shifted right by one; band of one pixel."""
    target, prediction = torch.zeros(2, 9, 9, dtype=torch.uint8)
    target[2:7, 2:7] = 1
    prediction[2:7, 3:8] = 1
    counts = band_counts(prediction, target, num_classes=2, width=1)
    # The squares' rings have 16 pixels each and share 4 + 4 of the top and bottom rows.
    assert counts[:, 1].tolist() == [8, 16, 16]
    # The target's background is all band: 32 pixels of image border and 24 around the square. Left of the
    # shifted square, rows 1 to 7 of column 1 touch neither: 56 - 7. Both bands hold these 49 without the five
    # pixels of column 2 that the target's square covers.
    assert counts[:, 0].tolist() == [44, 49, 56]


def test_contour_counts_by_hand() -> None:
    """Bars of one pixel width: the second lies two columns off, the third is not predicted at all."""
    target, prediction = torch.zeros(2, 10, 30, dtype=torch.uint8)
    target[:, 5], prediction[:, 7] = 1, 1
    target[:, 15], prediction[:, 18] = 2, 2
    target[:, 25] = 3
    counts = contour_counts(prediction, target, num_classes=4, width=2)
    assert counts[:, 1].tolist() == [10, 10, 10, 10]
    assert counts[:, 2].tolist() == [10, 0, 10, 0]
    assert counts[:, 3].tolist() == [0, 0, 10, 0]
    assert contour_counts(prediction, target, num_classes=4, width=3)[:, 2].tolist() == [10, 10, 10, 10]


def test_matching_is_chebyshev() -> None:
    target, prediction = torch.zeros(2, 12, 12, dtype=torch.uint8)
    target[3, 3], prediction[6, 6] = 1, 1
    assert contour_counts(prediction, target, num_classes=2, width=3)[:, 1].tolist() == [1, 1, 1, 1]
    assert contour_counts(prediction, target, num_classes=2, width=2)[:, 1].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("classes", [2, 7, 8, 9, 30])
def test_contours_match_as_brute_force_says(classes: int) -> None:
    """Also with more classes than are dilated at once."""
    target, prediction = _blobs(48, 61, classes=classes, seed=1), _blobs(48, 61, classes=classes, seed=2)
    prediction[:, :30] = np.roll(target, 2, axis=1)[:, :30]
    maps = torch.from_numpy(prediction), torch.from_numpy(target)
    counts = contour_counts(*maps, num_classes=classes, width=2)
    expected = np.zeros((4, classes), dtype=int)
    for label in range(classes):
        contours = []
        for labels in (prediction, target):
            mask = labels == label
            contours.append(mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=0))
        for row, (own, other) in enumerate((contours, contours[::-1])):
            here, there = np.argwhere(own), np.argwhere(other)
            distance = np.abs(here[:, None] - there[None]).max(-1)
            expected[2 * row, label] = len(here)
            expected[2 * row + 1, label] = (distance <= 2).any(1).sum()
    np.testing.assert_array_equal(counts.numpy(), expected)
    assert (expected[1] < expected[0]).any()


def _blobs(height: int, width: int, *, classes: int, seed: int) -> np.ndarray:
    """A label map of smooth regions (H, W) in which neighbouring regions differ."""
    noise = np.random.default_rng(seed).normal(size=(classes, height, width))
    return ndimage.gaussian_filter(noise, (0, 6, 6)).argmax(0).astype(np.uint8)
