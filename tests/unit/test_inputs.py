from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pointrend.data import ImageError
from pointrend.inputs import network_input, test_size, to_pixels
from pointrend.zoo.spec import InputSpec, TestSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def test_every_kind_of_image_gives_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(PIXELS).save(path)
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    with Image.open(path) as opened:
        kinds = [path, str(path), Image.fromarray(PIXELS), opened, PIXELS, tensor, tensor / 255, tensor.double() / 255]
        for kind in kinds:
            pixels = to_pixels(kind)
            assert pixels.dtype == np.uint8
            assert np.array_equal(pixels, PIXELS)


def test_bgr_turns_arrays_and_tensors_but_not_files(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(PIXELS).save(path)
    assert np.array_equal(to_pixels(PIXELS[:, :, ::-1], channels="bgr"), PIXELS)
    tensor = torch.from_numpy(PIXELS[:, :, ::-1].copy()).permute(2, 0, 1)
    assert np.array_equal(to_pixels(tensor, channels="bgr"), PIXELS)
    assert np.array_equal(to_pixels(path, channels="bgr"), PIXELS)
    assert np.array_equal(to_pixels(Image.fromarray(PIXELS), channels="bgr"), PIXELS)


def test_pixels_are_a_copy() -> None:
    array, tensor = PIXELS.copy(), torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)
    kept = to_pixels(array), to_pixels(tensor)
    array[:] = 0
    tensor[:] = 0
    for pixels in kept:
        assert np.array_equal(pixels, PIXELS)


def test_a_view_with_negative_strides_becomes_a_network_input() -> None:
    pixels = to_pixels(PIXELS[::-1, ::-1])
    made = network_input(pixels, input=InputSpec(), test=TestSpec(shortest=32))
    assert made.tensor.shape == (1, 3, 32, 45)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (PIXELS.astype(np.float32), r"arrays must be \(H, W, 3\) uint8, got \(5, 7, 3\) float32"),
        (PIXELS[:, :, 0], r"got \(5, 7\) uint8"),
        (PIXELS[:0], r"got \(0, 7, 3\)"),
        (np.zeros((5, 7, 4), np.uint8), r"got \(5, 7, 4\)"),
        (torch.zeros(5, 7, 3), r"tensors must be \(3, H, W\), one image, got \(5, 7, 3\)"),
        (torch.zeros(1, 3, 5, 7), r"got \(1, 3, 5, 7\)"),
        (torch.zeros(3, 0, 7), r"got \(3, 0, 7\)"),
        (torch.full((3, 5, 7), 1.5), r"in \[0, 1\], got \[1.5, 1.5\]"),
        (torch.full((3, 5, 7), float("nan")), "in .0, 1., got .nan"),
        (torch.full((3, 5, 7), -0.1), r"\[-0.1, -0.1\]"),
        (torch.zeros(3, 5, 7, dtype=torch.int64), "uint8 or float, got torch.int64"),
        (7, "expected a path, a PIL image, an array or a tensor, got int"),
        (None, "got NoneType"),
        (Image.new("RGB", (0, 4)), "no pixels: 0 x 4"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(image: object, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        to_pixels(image)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_unknown_channel_order_is_refused() -> None:
    with pytest.raises(ValueError, match="'rgb' or 'bgr', got 'gbr'"):
        to_pixels(PIXELS, channels="gbr")  # type: ignore[arg-type]


def test_a_truncated_file_opened_by_the_caller_is_an_image_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as opened, pytest.raises(ImageError, match="broken"):
        to_pixels(opened)


@pytest.mark.parametrize(
    ("size", "shortest", "longest", "expected"),
    [
        ((600, 800), 300, 1000, (300, 400)),
        ((800, 600), 300, 1000, (400, 300)),
        ((100, 1000), 300, 900, (90, 900)),
        ((1, 1), 64, 128, (64, 64)),
        ((1, 5000), 64, 128, (1, 128)),  # never zero
        ((64, 64), 64, 64, (64, 64)),
        ((333, 500), 200, 1000, (200, 300)),
        ((500, 333), 200, 1000, (300, 200)),
    ],
)
def test_known_test_sizes(size: tuple[int, int], shortest: int, longest: int, expected: tuple[int, int]) -> None:
    assert test_size(size, TestSpec(shortest=shortest, longest=longest)) == expected


@given(
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    shortest=st.integers(32, 1000),
    more=st.integers(0, 1000),
)
def test_size_respects_both_limits_and_reaches_one(size: tuple[int, int], shortest: int, more: int) -> None:
    height, width = test_size(size, TestSpec(shortest=shortest, longest=shortest + more))
    assert min(height, width) <= shortest
    assert max(height, width) <= shortest + more
    assert min(height, width) == shortest or max(height, width) == shortest + more
    assert (height <= width) == (size[0] <= size[1]) or height == width


def test_input_is_normalised_ordered_and_padded_with_zeros() -> None:
    pixels = np.zeros((32, 40, 3), np.uint8)
    pixels[:] = (10, 20, 30)
    spec = InputSpec(mean=(5.0, 6.0, 7.0), std=(1.0, 2.0, 4.0), channels="bgr")
    made = network_input(pixels, input=spec, test=TestSpec(shortest=32, pad_multiple=64))
    assert made.valid == (32, 40)
    assert made.tensor.shape == (1, 3, 64, 64)
    inside = torch.tensor([(30 - 5) / 1, (20 - 6) / 2, (10 - 7) / 4])
    assert torch.equal(made.tensor[0, :, :32, :40], inside[:, None, None].expand(3, 32, 40))
    assert not made.tensor[0, :, 32:].any()
    assert not made.tensor[0, :, :, 40:].any()


def test_no_padding_where_the_size_fits() -> None:
    made = network_input(
        np.zeros((64, 96, 3), np.uint8), input=InputSpec(), test=TestSpec(shortest=64, pad_multiple=32)
    )
    assert made.tensor.shape[2:] == made.valid == (64, 96)
