"""Images as instruments write them: deep values, stacks, channels, WhiteIsZero, orientation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from pointrend.data.images import ImageError, image_size, probe_image, read_ids, read_image, read_labels, read_photo
from pointrend.data.intensity import own_range, to_bytes
from pointrend.data.reading import Reading
from pointrend.errors import PointRendError, PointRendWarning
from pointrend.inputs import to_photo

AUTO = Reading(scaling="auto")
random = np.random.default_rng(0)
SCENE = random.integers(20, 220, (40, 50)).astype(np.uint16)


def saved(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("factor", [1, 7, 16, 257])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_photo_times_any_factor_is_the_same_photo(tmp_path: Path, factor: int, name: str) -> None:
    once = read_photo(saved(tmp_path / f"1{name}", SCENE), AUTO)
    scaled = read_photo(saved(tmp_path / name, SCENE * np.uint16(factor)), AUTO)
    assert np.abs(once.pixels.astype(int) - scaled.pixels).max() <= 1
    assert (scaled.pixels.min(), scaled.pixels.max()) == (0, 255)
    low, high = own_range(SCENE * np.uint16(factor))
    assert scaled.notes == (f"scaled from {low:.6g} .. {high:.6g}, its own range",)


def test_percentiles_leave_out_hot_pixels() -> None:
    values = np.full((100, 100), 1000, np.uint16)
    values[:50] = 3000
    values[0, 0], values[99, 99] = 65535, 0
    pixels, _ = to_bytes(values, "auto")
    assert np.unique(pixels).tolist() == [0, 255]
    assert (pixels == 255).mean() == 0.5
    uniform, _ = to_bytes(np.full((4, 4), 9, np.uint16), "auto")
    assert not uniform.any()


def test_black_and_white_are_the_outermost_thousandths_of_the_values() -> None:
    values = np.arange(10_001, dtype=np.uint16).reshape(73, 137)
    assert own_range(values) == pytest.approx((10, 9990))
    scaled = to_bytes(values, "auto")[0].ravel()
    assert scaled[[0, 10, 4000, 9500, 9990, 10_000]].tolist() == [0, 0, 102, 242, 255, 255]


def test_deep_leaves_8_bits_as_they_are_and_auto_does_not() -> None:
    dark = (SCENE // 8).astype(np.uint8)
    assert np.array_equal(to_bytes(dark, "deep")[0], dark)
    assert to_bytes(dark, "auto")[0].max() == 255
    assert to_bytes(dark.astype(np.uint16), "deep")[0].max() == 255
    assert to_bytes(np.array([[100, 300, 500]], np.uint16), (100.0, 500.0))[0].tolist() == [[0, 128, 255]]


def test_floats_of_any_range(tmp_path: Path) -> None:
    values = SCENE.astype(np.float32) * 1e4 - 3e5
    values[0, 0] = np.nan
    path = saved(tmp_path / "f.tif", values)
    with pytest.raises(ImageError, match=r"--range auto"):
        read_image(path)
    pixels = read_photo(path, AUTO).pixels[..., 0]
    expected, _ = to_bytes(SCENE, "auto")
    assert np.abs(pixels.astype(int) - expected)[1:].max() <= 2
    with pytest.raises(ImageError, match="no value is finite"):
        read_photo(saved(tmp_path / "nan.tif", np.full((4, 4), np.nan, np.float32)), AUTO)


def test_what_is_nearly_black_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path / "dark.tif", SCENE * np.uint16(16))
    with pytest.warns(PointRendWarning, match=r"nearly black: its largest value is 3504 of 65535; --range auto"):
        read_image(path)
    assert read_photo(saved(tmp_path / "light.tif", SCENE * np.uint16(257))).notes == ()


def test_pages_and_channels(tmp_path: Path) -> None:
    pages = [Image.fromarray(SCENE * np.uint16(k)) for k in (0, 1, 2)]
    path = tmp_path / "stack.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert read_photo(path, Reading(page=3, scaling="auto")).pixels.max() == 255
    assert read_photo(path).notes[0].startswith("has 3 pages, of which only the first was read")
    for read in (read_ids, read_labels):
        with pytest.raises(ImageError, match="has 3 pages; a data set has one image a file"):
            read(path)
    color = np.stack(
        [SCENE.astype(np.uint8), np.zeros_like(SCENE, np.uint8), np.full(SCENE.shape, 9, np.uint8)], axis=2
    )
    path = saved(tmp_path / "c.png", color)
    for channel in (1, 2, 3):
        pixels = read_image(path, Reading(channel=channel))
        assert all(np.array_equal(pixels[..., k], color[..., channel - 1]) for k in range(3))
    with pytest.raises(ImageError, match="has 3 channels, channel 4 was asked for"):
        read_image(path, Reading(channel=4))
    with pytest.raises(ImageError, match="has 1 channel, channel 2 was asked for"):
        read_image(saved(tmp_path / "g.tif", SCENE), Reading(channel=2))


def test_16_bits_of_colour_are_kept(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    color = np.stack([SCENE, SCENE // 2, SCENE * 3], axis=2) * np.uint16(16)
    expected, _ = to_bytes(color, "auto")
    for planar in ("contig", "separate"):
        path = tmp_path / f"{planar}.tif"
        stored = color if planar == "contig" else np.moveaxis(color, 2, 0)
        tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar)
        assert np.array_equal(read_photo(path, AUTO).pixels, expected)
        assert read_photo(path).notes == ()


def test_white_is_zero(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    path = saved(tmp_path / "inverted.tif", SCENE * np.uint16(257), tiffinfo=tags)
    with Image.open(path) as image:
        assert image.tag_v2[262] == 0, "this Pillow writes its own tag"
    plain = read_image(saved(tmp_path / "plain.tif", SCENE * np.uint16(257)))
    assert np.array_equal(read_image(path), 255 - plain)


def test_ids_are_numbers_whatever_is_white(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    ids = np.zeros((20, 30), np.uint8)
    ids[2:9, 3:9], ids[12:15, 20:25] = 1, 7
    for photometric in ("minisblack", "miniswhite"):
        path = tmp_path / f"{photometric}.tif"
        tifffile.imwrite(path, ids, photometric=photometric)
        assert np.array_equal(read_ids(path), ids)
        assert np.array_equal(read_labels(path), ids)


def test_float_ids(tmp_path: Path) -> None:
    ids = np.zeros((20, 30), np.float32)
    ids[3:9, 3:9] = 70000
    assert np.array_equal(read_ids(saved(tmp_path / "i.tif", ids)), ids)
    for value, said in ((0.5, "ids must be whole numbers"), (np.nan, "ids must be whole numbers"), (-1, "found -1")):
        ids[0, 0] = value
        with pytest.raises(ImageError, match=said):
            read_ids(saved(tmp_path / "j.tif", ids))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_of_turned_tiffs(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = random.integers(0, 255, (40, 64, 3)).astype(np.uint8)
    path = saved(tmp_path / "t.tif", pixels, exif=exif)
    assert image_size(path) == probe_image(path) == read_image(path).shape[:2]
    reference = tmp_path / "t.png"
    Image.fromarray(pixels).save(reference, exif=exif)
    assert np.array_equal(read_image(path), read_image(reference))


def test_arrays_are_scaled_as_files_are() -> None:
    deep = SCENE * np.uint16(16)
    for array in (deep, deep[..., None], np.repeat(deep[..., None], 3, axis=2), deep.astype(np.float32)):
        photo = to_photo(array, reading=AUTO)
        assert photo.pixels.shape == (40, 50, 3)
        assert np.array_equal(photo.pixels[..., 0], to_bytes(deep, "auto")[0])
    assert to_photo(deep).notes[0].startswith("nearly black")
    with pytest.raises(PointRendError, match=r"got bytes; decode them first: PIL\.Image\.open\(io\.BytesIO"):
        to_photo(b"123")  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes in folders")
def test_what_is_no_file_is_one_line_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    for name, said in (("pipe.png", "is not a regular file"), ("a.png", "a.png"), ("", "is a folder, not an image")):
        with pytest.raises(ImageError, match=said) as error:
            read_image(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(ImageError, match="URLs are not read; download it first"):
        read_image(Path("https://example.org/a.png"))
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(ImageError, match="pip install pillow-heif"):
        read_image(tmp_path / "a.heic")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scaling": "dark"}, "intensity must be 'full', 'auto' or \\(low, high\\), got 'dark'"),
        ({"scaling": (5.0, 5.0)}, "from a smaller to a larger value"),
        ({"scaling": (0.0, float("inf"))}, "from a smaller to a larger value"),
        ({"page": 0}, "page is counted from 1, got 0"),
    ],
)
def test_readings_that_mean_nothing_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(PointRendError, match=said):
        Reading(**settings)  # type: ignore[arg-type]
