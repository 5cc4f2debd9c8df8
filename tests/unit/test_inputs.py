from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pointrend.data import ImageError, InputSpec
from pointrend.inputs import ImageInput, is_batch, network_input, test_size, to_photo
from pointrend.spec import SemanticTest

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def to_pixels(image: ImageInput, **options: object) -> np.ndarray:
    return to_photo(image, **options).pixels  # type: ignore[arg-type]


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
    images, _ = network_input(pixels, input=InputSpec(), test=SemanticTest(shortest=32))
    assert images.shape == (1, 3, 32, 45)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (PIXELS.astype(np.float32), r"arrays: values of float32 must lie in 0\.\.1, found 0 to 2[0-9]+; scale them"),
        (PIXELS.astype(np.int64), r"arrays must be uint8, uint16 or floats in \[0, 1\], got int64"),
        (PIXELS[:0], r"arrays must be \(H, W, 3\).*got \(0, 7, 3\)"),
        (np.zeros((5, 7, 2), np.uint8), r"got \(5, 7, 2\)"),
        (torch.zeros(5, 7, 3), r"tensors must be \(3, H, W\).*of one image, got \(5, 7, 3\)"),
        (torch.zeros(1, 3, 5, 7), r"got \(1, 3, 5, 7\)"),
        (torch.zeros(3, 0, 7), r"got \(3, 0, 7\)"),
        (torch.full((3, 5, 7), 1.5), r"in 0\.\.1, found 1\.5 to 1\.5"),
        (torch.full((3, 5, 7), float("nan")), "found nan to nan"),
        (torch.full((3, 5, 7), -0.1), "found -0.1 to -0.1"),
        (torch.zeros(3, 5, 7, dtype=torch.int64), "uint8, uint16 or floats in .0, 1., got int64"),
        (7, r"expected a path, a PIL image, an array \(H, W, 3\) or a tensor \(3, H, W\), got int"),
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
    assert test_size(size, SemanticTest(shortest=shortest, longest=longest)) == expected


@given(
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    shortest=st.integers(32, 1000),
    more=st.integers(0, 1000),
)
def test_size_respects_both_limits_and_reaches_one(size: tuple[int, int], shortest: int, more: int) -> None:
    height, width = test_size(size, SemanticTest(shortest=shortest, longest=shortest + more))
    assert min(height, width) <= shortest
    assert max(height, width) <= shortest + more
    assert min(height, width) == shortest or max(height, width) == shortest + more
    assert (height <= width) == (size[0] <= size[1]) or height == width


def test_input_is_normalised_ordered_and_padded_with_zeros() -> None:
    pixels = np.zeros((32, 40, 3), np.uint8)
    pixels[:] = (10, 20, 30)
    spec = InputSpec(mean=(5.0, 6.0, 7.0), std=(1.0, 2.0, 4.0), channels="bgr")
    images, frame = network_input(pixels, input=spec, test=SemanticTest(shortest=32, pad_multiple=64))
    assert (frame.padded, frame.valid, frame.size) == ((64, 64), (32, 40), (32, 40))
    assert images.shape == (1, 3, 64, 64)
    inside = torch.tensor([(30 - 5) / 1, (20 - 6) / 2, (10 - 7) / 4])
    assert torch.equal(images[0, :, :32, :40], inside[:, None, None].expand(3, 32, 40))
    assert not images[0, :, 32:].any()
    assert not images[0, :, :, 40:].any()


def test_a_smaller_image_averages_pixels_that_bilinear_resizing_alone_would_skip() -> None:
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[:, 1::4] = pixels[:, 2::4] = 255  # the two columns between which every fourth centre lies
    images, _ = network_input(
        pixels, input=InputSpec(mean=(0.0,) * 3, std=(1.0,) * 3), test=SemanticTest(shortest=32, longest=32)
    )
    assert images.shape == (1, 3, 32, 32)
    assert (images[..., 1:-1] - 127.5).abs().max() <= 1


def test_without_antialiasing_it_skips_them() -> None:
    """As a second implementation of bilinear resizing, one pixel at a time, does."""
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    test = SemanticTest(shortest=32, longest=64)
    images, _ = network_input(pixels, input=InputSpec(**plain, antialias=False), test=test)
    height, width = images.shape[2:]

    def at(row: int, column: int) -> np.ndarray:
        y, x = ((i + 0.5) * n / m - 0.5 for i, n, m in ((row, 70, height), (column, 90, width)))
        top, left = int(y), int(x)
        rows = pixels[top : top + 2, left : left + 2].astype(float)
        upper, lower = rows[:, 0] * (1 - x + left) + rows[:, 1] * (x - left)
        return upper * (1 - y + top) + lower * (y - top)

    expected = np.array([[at(row, column) for column in range(width)] for row in range(height)])
    assert np.abs(images[0].permute(1, 2, 0).numpy() - expected).max() <= 1
    smooth, _ = network_input(pixels, input=InputSpec(**plain), test=test)
    assert (images - smooth).abs().mean() > 5


def test_no_padding_where_the_size_fits() -> None:
    images, frame = network_input(
        np.zeros((64, 96, 3), np.uint8), input=InputSpec(), test=SemanticTest(shortest=64, pad_multiple=32)
    )
    assert images.shape[2:] == frame.valid == frame.padded == (64, 96)


GREY = PIXELS[:, :, 0]
AS_COLOR = np.repeat(GREY[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (GREY, AS_COLOR),
        (GREY[:, :, None], AS_COLOR),
        (torch.from_numpy(GREY), AS_COLOR),
        (torch.from_numpy(GREY)[None], AS_COLOR),
        (PIXELS.astype(np.uint16) * 257, PIXELS),
        (np.full((2, 2, 3), 65535, np.uint16), np.full((2, 2, 3), 255)),
        (np.full((2, 2, 3), 128, np.uint16), np.zeros((2, 2, 3))),  # 0.498 steps of 8 bits
        (np.full((2, 2, 3), 129, np.uint16), np.ones((2, 2, 3))),
        (PIXELS / 255, PIXELS),
        ((PIXELS / 255).astype(np.float16), PIXELS),
        (np.dstack((PIXELS, np.full_like(GREY, 255))), PIXELS),
        (np.dstack((PIXELS, np.zeros_like(GREY))), np.full_like(PIXELS, 255)),  # transparent is white
        (np.dstack((np.zeros_like(PIXELS), np.full_like(GREY, 102))), np.full_like(PIXELS, 153)),
    ],
)
def test_grey_deep_float_and_transparent_arrays(image: object, expected: np.ndarray) -> None:
    pixels = to_pixels(image)  # type: ignore[arg-type]
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, expected)


def test_transparent_arrays_of_opencv() -> None:
    image = np.dstack((PIXELS[:, :, ::-1], np.full_like(GREY, 255)))
    assert np.array_equal(to_pixels(image, channels="bgr"), PIXELS)


def test_what_stands_for_several_images() -> None:
    assert is_batch([PIXELS])
    assert is_batch(image for image in [PIXELS])
    assert is_batch(np.zeros((2, 5, 7, 3)))
    assert is_batch(torch.zeros(2, 3, 5, 7))
    for one in (PIXELS, GREY, torch.zeros(3, 5, 7), "a.png", Path("a.png"), Image.fromarray(PIXELS), b"bytes", 7):
        assert not is_batch(one)
