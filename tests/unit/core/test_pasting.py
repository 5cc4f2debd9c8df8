"""Pasting against the plain ways: `grid_sample` over the whole image, and many samples in every pixel."""

from __future__ import annotations

import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pointrend.core.pasting import MAX_EXTENT, Paste, paste_mask, paste_window

SIZE = (11, 14)
MODES: tuple[Paste, ...] = ("bilinear", "area")


def sampled(mask: Tensor, box: Tensor, size: tuple[int, int], *, per_pixel: int = 1) -> Tensor:
    """The whole image (H, W), read bilinearly at `per_pixel` x `per_pixel` places in every pixel, and averaged."""
    height, width = size
    x = (torch.arange(width * per_pixel, dtype=torch.float64) + 0.5) / per_pixel
    y = (torch.arange(height * per_pixel, dtype=torch.float64) + 0.5) / per_pixel
    left, top, right, bottom = box.double()
    grid_y, grid_x = torch.meshgrid((y - top) / (bottom - top), (x - left) / (right - left), indexing="ij")
    grid = torch.stack((grid_x, grid_y), dim=-1)[None] * 2 - 1
    values = F.grid_sample(mask.double()[None, None], grid, padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(values, per_pixel)[0, 0]


def pasted(mask: Tensor, box: Tensor, size: tuple[int, int], mode: Paste) -> Tensor:
    """The whole image (H, W) of what `paste_mask` gives for a window."""
    (left, top, right, bottom), values = paste_mask(mask, box, size, mode=mode)
    assert values.shape == (bottom - top, right - left)
    image = torch.zeros(size, dtype=values.dtype)
    image[top:bottom, left:right] = values
    return image


def random_mask(side: int, seed: int) -> Tensor:
    return torch.rand(side, side, generator=torch.Generator().manual_seed(seed))


@st.composite
def boxes(draw: st.DrawFn, smallest: float = 2.0**-7) -> Tensor:
    """Boxes inside, across the border and beside an image of `SIZE`; also larger than it, and on whole pixels."""
    places = st.floats(-20, 25, width=32) | st.integers(-20, 25).map(float)
    extents = st.floats(smallest, 60, width=32) | st.integers(1, 60).map(float)
    x, y = draw(places), draw(places)
    return torch.tensor([x, y, x + draw(extents), y + draw(extents)], dtype=torch.float64)


@given(box=boxes(), side=st.integers(1, 28), seed=st.integers(0, 99))
def test_bilinear_is_grid_sample_over_the_whole_image(box: Tensor, side: int, seed: int) -> None:
    mask = random_mask(side, seed)
    torch.testing.assert_close(pasted(mask, box, SIZE, "bilinear"), sampled(mask, box, SIZE).float(), atol=2e-6, rtol=0)


@settings(max_examples=40)
@given(box=boxes(smallest=2.0), side=st.integers(1, 8), seed=st.integers(0, 99))
def test_area_is_the_mean_of_many_samples_in_a_pixel(box: Tensor, side: int, seed: int) -> None:
    mask = random_mask(side, seed)
    expected = sampled(mask, box, SIZE, per_pixel=32).float()
    torch.testing.assert_close(pasted(mask, box, SIZE, "area"), expected, atol=5e-3, rtol=0)


@given(box=boxes(), side=st.integers(1, 28))
def test_nothing_lies_outside_of_the_window(box: Tensor, side: int) -> None:
    left, top, right, bottom = paste_window(box + 100, (300, 300), side)
    image = sampled(torch.ones(side, side), box + 100, (300, 300))
    image[top:bottom, left:right] = 0
    assert image.abs().max() == 0


@given(box=boxes(), side=st.integers(1, 28))
def test_area_keeps_the_sum(box: Tensor, side: int) -> None:
    """The mean over squares that tile the image loses nothing, however fine the mask or small the box."""
    mask = random_mask(side, side).double()
    box = box + 100
    cell = (box[2:] - box[:2]).prod() / side**2
    assert float(pasted(mask, box, (300, 300), "area").sum()) == pytest.approx(float(mask.sum() * cell), rel=1e-9)


@given(box=boxes(), side=st.integers(1, 28), mode=st.sampled_from(MODES))
def test_values_are_probabilities(box: Tensor, side: int, mode: Paste) -> None:
    values = paste_mask(torch.ones(side, side), box, SIZE, mode=mode)[1]
    assert bool(((values >= -1e-6) & (values <= 1 + 1e-6)).all())


def test_area_sees_what_bilinear_jumps_over() -> None:
    """Stripes finer than a pixel: their mean everywhere, whatever the phase; at centres they are all or nothing."""
    mask = (torch.arange(224) % 8 < 2).float().expand(224, 224).contiguous()  # a quarter is object
    box = torch.tensor([5.0, 5.0, 33.0, 33.0])  # each pixel holds one stripe, beside its centre
    inner = slice(7, 31)
    area = pasted(mask, box, (40, 40), "area")[inner, inner]
    bilinear = pasted(mask, box, (40, 40), "bilinear")[inner, inner]
    assert (area - 0.25).abs().max() < 1e-5
    assert bilinear.max() == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("side", [1, 7, 28, 224])
def test_a_full_mask_fills_its_box_and_nothing_beside_it(mode: Paste, side: int) -> None:
    inside = pasted(torch.ones(side, side), torch.tensor([3.0, 2.0, 9.0, 6.0]), SIZE, mode) >= 0.5
    box = torch.zeros(SIZE, dtype=torch.bool)
    box[2:6, 3:9] = True
    assert not (inside & ~box).any()
    if side >= 28:  # coarse cells fade out at the corners
        assert torch.equal(inside, box)


def test_equal_grids_copy_the_mask() -> None:
    mask = random_mask(6, 0)
    box = torch.tensor([4.0, 3.0, 10.0, 9.0])
    torch.testing.assert_close(pasted(mask, box, SIZE, "bilinear")[3:9, 4:10], mask)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "box",
    [
        (-9.0, 2.0, -5.0, 6.0),
        (20.0, 2.0, 25.0, 6.0),
        (2.0, -9.0, 6.0, -5.0),
        (2.0, 30.0, 6.0, 35.0),
        (3.0, 3.0, 3.0, 6.0),
        (3.0, 3.0, 6.0, 3.0),
        (3.0, 3.0, 3.0, 3.0),
        (6.0, 3.0, 3.0, 9.0),
        (math.nan, 3.0, 6.0, 9.0),
        (3.0, 3.0, math.nan, 9.0),
        (3.0, 3.0, math.inf, 9.0),
        (-math.inf, 3.0, math.inf, 9.0),
        (math.inf, 3.0, math.inf, 9.0),
        (0.0, 0.0, MAX_EXTENT * 2, 9.0),
        (1e30, 1e30, 1e31, 1e31),
    ],
)
def test_boxes_that_hold_nothing_give_an_empty_window(box: tuple[float, ...], mode: Paste) -> None:
    window, values = paste_mask(torch.ones(28, 28), torch.tensor(box), SIZE, mode=mode)
    assert window == (0, 0, 0, 0)
    assert values.shape == (0, 0)


def test_the_window_holds_no_more_than_it_must() -> None:
    assert paste_window(torch.tensor([100.0, 200.0, 120.0, 210.0]), (4000, 6000), 224) == (99, 199, 121, 211)
    assert paste_window(torch.tensor([-50.0, -50.0, 9000.0, 9000.0]), (40, 60), 28) == (0, 0, 60, 40)


@pytest.mark.parametrize("mode", MODES)
def test_half_precision_and_autocast_do_not_reach_the_arithmetic(mode: Paste) -> None:
    mask = random_mask(28, 1).half()
    box = torch.tensor([1.3, 2.1, 9.7, 8.4])
    expected = pasted(mask.float(), box, SIZE, mode)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = pasted(mask, box, SIZE, mode)
    assert made.dtype == torch.float32
    assert torch.equal(made, expected)


@pytest.mark.parametrize(
    ("mask", "box", "mode", "said"),
    [
        (torch.zeros(3, 4), torch.zeros(4), "area", "expected probabilities (M, M) and box (4,), got (3, 4) and (4,)"),
        (torch.zeros(0, 0), torch.zeros(4), "area", "got (0, 0) and (4,)"),
        (torch.zeros(1, 3, 3), torch.zeros(4), "area", "got (1, 3, 3) and (4,)"),
        (torch.zeros(3, 3), torch.zeros(1, 4), "area", "got (3, 3) and (1, 4)"),
        (torch.zeros(3, 3), torch.zeros(4), "nearest", "mode must be one of bilinear, area, got 'nearest'"),
    ],
)
def test_wrong_arguments_are_refused(mask: Tensor, box: Tensor, mode: Paste, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        paste_mask(mask, box, SIZE, mode=mode)
