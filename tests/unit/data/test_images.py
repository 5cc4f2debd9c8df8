"""Images of every kind, and the one line that a bad one gets."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from image_files import check_one_line, noise, saved
from PIL import Image

from pointrend.data import images
from pointrend.data.images import ImageError, image_size, probe_image, read_image, read_labels, read_photo
from pointrend.data.reading import Reading
from pointrend.errors import PointRendWarning

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_halves(height: int = 4, width: int = 6) -> np.ndarray:
    """Red left, blue right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = RED
    pixels[:, width // 2 :] = BLUE
    return pixels


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_rgb(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path, Image.fromarray(two_halves()), f"a.{suffix}", **options)
    result = read_image(path)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, two_halves())


def test_grey_and_black_and_white(tmp_path: Path) -> None:
    grey = np.array([[0, 100, 255]], np.uint8)
    result = read_image(saved(tmp_path, Image.fromarray(grey), "grey.png"))
    np.testing.assert_array_equal(result, np.repeat(grey[..., None], 3, axis=-1))
    result = read_image(saved(tmp_path, Image.fromarray(grey > 50), "bits.png"))
    np.testing.assert_array_equal(result[..., 0], [[0, 255, 255]])


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bit_is_scaled_and_not_clipped(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 257, 25700, 65535]], np.uint16)
    result = read_image(saved(tmp_path, Image.fromarray(values), name))
    np.testing.assert_array_equal(result, np.repeat(np.array([[[0], [1], [100], [255]]], np.uint8), 3, axis=-1))


def test_floats(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "float.tif")
    np.testing.assert_array_equal(read_image(path)[..., 1], [[0, 128, 255]])
    assert probe_image(path) == (1, 3)


@pytest.mark.parametrize("read", [read_image, probe_image])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[0, 0.5, 255]], np.float32), r"0\.\.1, found 0 to 255"),
        (np.array([[0, np.nan]], np.float32), r"0\.\.1, found nan to nan"),
        (np.array([[0, 70_000]], np.int32), r"0\.\.65535, found 0 to 70000"),
        (np.array([[-1, 5]], np.int32), r"0\.\.65535, found -1 to 5"),
    ],
)
def test_values_without_a_meaning(
    tmp_path: Path, values: np.ndarray, said: str, read: Callable[[Path], object]
) -> None:
    path = saved(tmp_path, Image.fromarray(values), "values.tif")
    with pytest.raises(ImageError, match=said) as error:
        read(path)
    check_one_line(error, path)
    assert "broken" not in str(error.value)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(tmp_path: Path, mode: str) -> None:
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = (0, 255, 51)
    result = read_image(saved(tmp_path, Image.fromarray(pixels).convert(mode), "see-through.png"))
    np.testing.assert_array_equal(result[..., 0], [[255, 0, 204]])


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([*RED, *BLUE, 0, 255, 0])
    assert image.mode == "P"
    result = read_image(saved(tmp_path, image, "palette.png"))
    np.testing.assert_array_equal(result[0], [RED, BLUE, (0, 255, 0)])
    result = read_image(saved(tmp_path, image, "transparent.png", transparency=1))
    np.testing.assert_array_equal(result[0], [RED, (255, 255, 255), (0, 255, 0)])


def test_cmyk(tmp_path: Path) -> None:
    image = Image.fromarray(two_halves(32, 32)).convert("CMYK")
    for name in ("print.jpg", "print.tif"):
        result = read_image(saved(tmp_path, image, name))
        assert result.shape == (32, 32, 3)
        # Not inverted, and red left of blue.
        np.testing.assert_allclose(result[16, 4], RED, atol=12)
        np.testing.assert_allclose(result[16, 28], BLUE, atol=12)


def rotated_by(orientation: int) -> np.ndarray:
    """What a camera with this orientation stores, so that viewers show `two_halves`."""
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(undo[orientation](two_halves()))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    image = Image.fromarray(rotated_by(orientation))
    path = saved(tmp_path, image, f"turned.{suffix}", exif=exif, **options)
    np.testing.assert_array_equal(read_image(path), two_halves())
    assert probe_image(path) == (4, 6)


def test_exif_of_jpeg_and_broken_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(tmp_path, Image.fromarray(two_halves(32, 64)), "turned.jpg", exif=exif)
    assert read_image(turned).shape == (64, 32, 3)
    assert probe_image(turned) == (64, 32)
    broken = saved(tmp_path, Image.fromarray(two_halves(32, 64)), "broken.jpg", exif=b"Exif\0\0II*\0\xff\xff")
    assert read_image(broken).shape == (32, 64, 3)
    assert probe_image(broken) == (32, 64)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_first_frame_of_several(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, BLUE)]
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path, frames[0], f"moving.{suffix}", save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as image:
        assert image.n_frames == 2
    with pytest.warns(PointRendWarning, match="has 2 pages, of which only the first was read"):
        np.testing.assert_array_equal(read_image(path), np.full((8, 8, 3), RED, np.uint8))
    for page, color in ((1, RED), (2, BLUE)):
        assert read_photo(path, Reading(page=page)).notes == ()
        np.testing.assert_array_equal(read_image(path, Reading(page=page))[0, 0], color)
    with pytest.raises(ImageError, match="has 2 pages, page 3 was asked for"):
        read_image(path, Reading(page=3))
    for read in (image_size, probe_image):  # a data set has one image a file
        with pytest.raises(ImageError, match="has 2 pages; a data set has one image a file"):
            read(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "gif"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.9])
@pytest.mark.parametrize("read", [read_image, probe_image])
def test_truncated(tmp_path: Path, suffix: str, share: float, read: Callable[[Path], object]) -> None:
    path = saved(tmp_path, noise(), f"cut.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError) as error:
        read(path)
    check_one_line(error, path)


@pytest.mark.parametrize("read", [read_image, probe_image, read_labels])
def test_no_images(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not an image\n" * 50)
    (tmp_path / "folder.png").mkdir()
    for name, reason in {
        "empty.png": "the file is empty",
        "text.jpg": "not an image",
        "folder.png": "folder",
        "missing.png": "no such file",
        "text.jpg/below.png": "no such file",
    }.items():
        with pytest.raises(ImageError, match=reason) as error:
            read(tmp_path / name)
        check_one_line(error, tmp_path / name)


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, noise(), "secret.png")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything

        def denied(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(images.Image, "open", denied)
    with pytest.raises(ImageError, match="permission") as error:
        read_image(path)
    check_one_line(error, path)


def write_png_header(path: Path, width: int, height: int) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("pillow_limit", [None, Image.MAX_IMAGE_PIXELS])
def test_absurdly_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pillow_limit: int | None) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    path = tmp_path / "bomb.png"
    write_png_header(path, 60_000, 60_000)
    for read in (read_image, probe_image, read_labels):
        with pytest.raises(ImageError, match="make it smaller") as error:
            read(path)
        check_one_line(error, path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "webp", "bmp"])
def test_the_limit_is_ours_and_pillows_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Pillow warns from its limit on and fails from twice of it; neither may be seen below ours."""
    path = saved(tmp_path, noise(), f"large.{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == (64, 64, 3)
        assert probe_image(path) == (64, 64)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(ImageError):
        read_image(tmp_path / "missing.png")
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("share", [1.5, 3])
def test_one_message_for_what_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Whether Pillow warns (up to twice the limit) or refuses it itself."""
    path = tmp_path / "large.png"
    write_png_header(path, 20_000, int(images.MAX_PIXELS * share / 20_000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ImageError) as error:
            read_image(path)
    assert str(error.value) == f"{path}: has more than 300 million pixels; make it smaller"


def test_threads_that_read_at_once_leave_pillows_limit(tmp_path: Path) -> None:
    path = saved(tmp_path, noise(), "a.png")
    before = Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(probe_image, [path] * 400)) == {(64, 64)}
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_limit_holds_until_the_last_reader_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    first, second = images.pixel_limit(), images.pixel_limit()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert images.MAX_PIXELS == Image.MAX_IMAGE_PIXELS
    second.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_no_memory_before_the_size_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    path = saved(tmp_path, noise(), "a.png")
    monkeypatch.setattr(images.Image, "open", full)
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert str(error.value) == f"{path}: not enough memory"


@pytest.mark.parametrize(
    ("kind", "damage", "said"),
    [
        ("AVIF", lambda b: b.replace(b"av01", b"xx01"), "Failed to decode"),
        ("DDS", lambda b: b[:80] + bytes(4) + b[84:], "Unknown pixel format flags 0"),
    ],
)
def test_errors_of_other_kinds_do_not_end_a_batch(
    tmp_path: Path, kind: str, damage: Callable[[bytes], bytes], said: str
) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"Pillow does not write {kind} here")
    path = tmp_path / "a.img"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, kind)
    assert read_image(path).shape == (64, 64, 3)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ImageError, match=f"the image is broken .*{said}") as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
