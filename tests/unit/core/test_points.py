"""Sampling at points: values, conventions, types, gradients and errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pointrend.core import pixel_centers, regular_grid, sample_labels, sample_points

RAMP = torch.arange(6.0).view(1, 1, 2, 3)  # 0 1 2 / 3 4 5


def at(*points: tuple[float, float]) -> Tensor:
    return torch.tensor([points])


def test_a_pixel_centre_reads_the_pixel_and_the_middle_the_mean() -> None:
    sampled = sample_points(RAMP, at((1 / 6, 1 / 4), (5 / 6, 3 / 4), (1 / 2, 1 / 2)))
    torch.testing.assert_close(sampled, torch.tensor([[[0.0], [5.0], [2.5]]]))


def test_zeros_fade_out_at_the_border_and_border_repeats() -> None:
    ones = torch.ones(1, 1, 4, 4)
    corner = at((0.0, 0.0), (0.0, 0.5))
    torch.testing.assert_close(sample_points(ones, corner), torch.tensor([[[0.25], [0.5]]]))
    torch.testing.assert_close(sample_points(ones, corner, padding="border"), torch.ones(1, 2, 1))


def test_nearest_reads_one_pixel() -> None:
    sampled = sample_points(RAMP, at((0.3, 0.2), (0.99, 0.9)), mode="nearest")
    assert sampled.flatten().tolist() == [0.0, 5.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8])
def test_the_result_is_at_least_float32(dtype: torch.dtype) -> None:
    sampled = sample_points(RAMP.to(dtype), at((0.5, 0.5)))
    assert sampled.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert sampled.item() == 2.5


def test_autocast_does_not_reach_it() -> None:
    features, points = torch.rand(1, 2, 5, 7), torch.rand(1, 9, 2)
    expected = sample_points(features, points)
    with torch.autocast("cpu", torch.bfloat16):
        sampled = sample_points(features, points)
    assert sampled.dtype == torch.float32
    assert torch.equal(sampled, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("read", [lambda p: sample_points(RAMP, p), lambda p: sample_labels(RAMP[0].long(), p)])
def test_half_precision_points_are_refused(read: object, dtype: torch.dtype) -> None:
    assert callable(read)
    with pytest.raises(ValueError, match=r"points must be float32 or float64, got torch\.\w+: half precision moves"):
        read(at((0.5, 0.5)).to(dtype))


@pytest.mark.parametrize(
    ("features", "points", "message"),
    [
        (torch.zeros(1, 1, 2, 2), torch.zeros(2, 196), r"points must be \(N, P, 2\), got \(2, 196\)"),
        (torch.zeros(1, 1, 2, 2), torch.zeros(1, 4, 3), r"points must be \(N, P, 2\), got \(1, 4, 3\)"),
        (torch.zeros(2, 1, 2, 2), torch.zeros(3, 4, 2), r"points are for 3 images, the map has 2"),
        (torch.zeros(1, 2, 2), torch.zeros(1, 4, 2), r"features must be \(N, C, H, W\), got \(1, 2, 2\)"),
    ],
)
def test_wrong_shapes_are_named(features: Tensor, points: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_points(features, points)


def test_labels_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels must be \(N, H, W\), got \(1, 1, 2, 2\)"):
        sample_labels(torch.zeros(1, 1, 2, 2), torch.zeros(1, 4, 2))


def test_labels_on_the_border_and_beyond_read_the_outermost_pixel() -> None:
    labels = torch.tensor([[[1, 2], [3, 255]]], dtype=torch.uint8)
    read = sample_labels(labels, at((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (-0.5, 2.0)))
    assert read.dtype == torch.uint8
    assert read.tolist() == [[1, 2, 255, 3]]


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_gradients_of_sampling(padding: object) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    # Off pixel centres and borders, where interpolation has a kink.
    points = torch.rand(2, 6, 2, dtype=torch.float64, generator=generator).mul(0.6).add(0.21).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda f, p: sample_points(f, p, padding=padding),  # type: ignore[arg-type]
        (features, points),
    )


def test_no_points_read_nothing() -> None:
    assert sample_points(RAMP, torch.zeros(1, 0, 2)).shape == (1, 0, 1)
    assert sample_labels(RAMP[0], torch.zeros(1, 0, 2)).shape == (1, 0)


def test_regular_grid_goes_row_by_row_for_every_image() -> None:
    grid = regular_grid((2, 3), batch=2)
    assert grid.shape == (2, 6, 2)
    assert grid.dtype == torch.float32
    torch.testing.assert_close(grid[1, 4], torch.tensor([0.5, 0.75]))
    assert torch.equal(grid[0], grid[1])


@pytest.mark.parametrize("size", [(0, 3), (3, 0)])
def test_an_empty_grid_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"size must be \(H, W\) of at least one pixel"):
        regular_grid(size)


def test_pixel_centres_of_a_large_grid_are_told_apart() -> None:
    size = (8192, 8192)
    last = torch.tensor([8192 * 8192 - 2, 8192 * 8192 - 1])
    x, y = pixel_centers(last, size).unbind(-1)
    torch.testing.assert_close(x.double() * 8192, torch.tensor([8190.5, 8191.5], dtype=torch.float64))
    assert y[0] == y[1]
