"""Wrong masks: what each function does to simple shapes, by value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pointrend.data.masks import corruptions
from pointrend.data.masks.corruptions import CORRUPTIONS


def square(size: int = 64, low: int = 16, high: int = 48) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    mask[low:high, low:high] = 1
    return mask


def disc(radius: float, size: int = 128) -> np.ndarray:
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    return (np.hypot(y, x) < radius).astype(np.float32)


def test_coarse_averages_over_squares_and_interpolates() -> None:
    mask = square(64, 16, 48)
    found = corruptions.coarse(mask, 8)
    small = F.interpolate(torch.from_numpy(mask)[None, None], scale_factor=1 / 8, mode="area")
    expected = F.interpolate(small, size=(64, 64), mode="bilinear", align_corners=False)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_coarse_squares_may_begin_before_the_mask() -> None:
    mask = square(64, 16, 48)
    assert not np.array_equal(corruptions.coarse(mask, 8, (3, 0)), corruptions.coarse(mask, 8))
    np.testing.assert_allclose(corruptions.coarse(mask, 8, (8, 16)), corruptions.coarse(mask, 8), atol=1e-6)
    assert corruptions.coarse(mask[:61, :59], 8, (5, 2)).shape == (61, 59)


@pytest.mark.parametrize(("by", "expected"), [(3.0, 23.0), (-3.0, 17.0), (0.0, 20.0)])
def test_grown_moves_the_outline_by_a_distance(by: float, expected: float) -> None:
    area = corruptions.grown(disc(20), by).sum()
    assert np.sqrt(area / np.pi) == pytest.approx(expected, abs=0.15)


def test_distance_is_that_to_the_edge_between_pixels() -> None:
    mask = square(9, 3, 6)
    line = corruptions.distance(mask)[4]
    np.testing.assert_allclose(line, [2.5, 1.5, 0.5, -0.5, -1.5, -0.5, 0.5, 1.5, 2.5])


def test_masks_without_an_outline_stay_as_they_are() -> None:
    for value in (0, 1):
        mask = np.full((32, 48), value, np.float32)
        for name, corrupt in CORRUPTIONS.items():
            if name != "polygon":
                np.testing.assert_array_equal(corrupt(mask), mask, err_msg=name)
    np.testing.assert_array_equal(corruptions.polygon(np.zeros((32, 48), np.float32)), 0)


def test_polygon_keeps_corners_and_holes() -> None:
    mask = square(64, 8, 56)
    mask[24:40, 24:40] = 0
    found = corruptions.polygon(mask, 1.5)
    assert found[32, 32] == 0
    assert found[12, 12] == 1
    assert (found != mask).mean() < 0.06
    round_ = corruptions.polygon(disc(40), 8.0)
    assert 0.01 < (round_ != disc(40)).mean() < 0.2


def test_shifted_by_half_a_pixel_is_a_mean() -> None:
    found = corruptions.shifted(square(), 0.0, 0.5)
    assert found[32, 16] == pytest.approx(0.5)
    assert found[32, 48] == pytest.approx(0.5)


def test_boxed_fills_each_part() -> None:
    mask = np.zeros((20, 20), np.float32)
    mask[2, 2:6] = mask[2:6, 2] = 1
    mask[12:15, 12] = 1
    found = corruptions.boxed(mask)
    assert found[2:6, 2:6].all()
    assert found.sum() == 16 + 3


@pytest.mark.parametrize("add", [True, False])
def test_parts_are_added_and_taken_away_at_the_outline(add: bool) -> None:
    mask = disc(30)
    found = corruptions.with_part(mask, 8, np.random.default_rng(0), add=add)
    assert (found > mask).any() == add
    assert (found < mask).any() != add


def test_displaced_moves_the_outline_by_about_its_amplitude() -> None:
    mask = disc(45)
    found = corruptions.displaced(mask, 3.0, 20, np.random.default_rng(1))
    moved = np.abs(corruptions.distance(mask))[found != mask]
    assert 1 < moved.mean() < 4
    assert moved.max() < 15


def test_noise_has_mean_0_and_deviation_1() -> None:
    noise = corruptions.smooth_noise((97, 131), 20, np.random.default_rng(0))
    assert noise.shape == (97, 131)
    assert float(noise.mean()) == pytest.approx(0, abs=1e-5)
    assert float(noise.std()) == pytest.approx(1, abs=1e-4)
    assert np.abs(np.diff(noise, axis=1)).mean() < 0.2  # smooth


def test_nearly_true_is_within_a_pixel_and_corrupted_is_not() -> None:
    mask = disc(40)
    far = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        near = corruptions.nearly_true(mask, random)
        wrong = corruptions.corrupted(mask, random)
        for made in (near, wrong):
            assert made.shape == mask.shape
            assert made.min() >= 0
            assert made.max() <= 1
        moved = np.abs(corruptions.distance(mask))[(near > 0.5) != (mask > 0.5)]
        assert moved.max(initial=0) < 2.6
        far.append(((wrong > 0.5) != (mask > 0.5)).mean())
    assert np.median(far) > 0.01


def test_the_same_seed_draws_the_same_mask() -> None:
    a, b = (corruptions.corrupted(disc(40), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
