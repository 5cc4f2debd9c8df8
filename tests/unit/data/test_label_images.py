"""Label images give values, not colours, whatever their format; others are refused in one line."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import check_one_line, noise, saved
from PIL import Image

from pointrend.data.images import ImageError, read_labels


class TestLabels:
    @pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
    def test_values_of_grey(self, tmp_path: Path, suffix: str) -> None:
        values = np.array([[0, 1, 11], [200, 254, 255]], np.uint8)
        result = read_labels(saved(tmp_path, Image.fromarray(values), f"labels.{suffix}"))
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, values)

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_palette_gives_indices_not_colours(self, tmp_path: Path, bits: int) -> None:
        values = np.arange(2**bits, dtype=np.uint8)[None]
        image = Image.fromarray(values)
        image.putpalette([255 - index for index in range(2**bits) for _ in range(3)])
        path = saved(tmp_path, image, "palette.png", bits=bits)
        np.testing.assert_array_equal(read_labels(path), values)

    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_few_bits_of_grey_are_not_stretched(self, tmp_path: Path, bits: int) -> None:
        values = np.arange(2**bits, dtype=np.uint8)[None]
        path = tmp_path / "bits.png"
        write_grey_png(path, values, bits)
        with Image.open(path) as image:
            assert np.asarray(image).max() in (255, True)  # what Pillow makes of them
        np.testing.assert_array_equal(read_labels(path), values)

    def test_sixteen_bit(self, tmp_path: Path) -> None:
        path = saved(tmp_path, Image.fromarray(np.array([[0, 3, 255]], np.uint16)), "fits.png")
        np.testing.assert_array_equal(read_labels(path), [[0, 3, 255]])
        path = saved(tmp_path, Image.fromarray(np.array([[0, 3, 256]], np.uint16)), "instances.png")
        with pytest.raises(ImageError, match="found 0 to 256") as error:
            read_labels(path)
        check_one_line(error, path)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
    def test_several_channels_are_refused(self, tmp_path: Path, mode: str) -> None:
        path = saved(tmp_path, noise(mode), "colours.png")
        with pytest.raises(ImageError, match=f"one channel.*got {mode}") as error:
            read_labels(path)
        check_one_line(error, path)

    def test_jpeg_is_refused(self, tmp_path: Path) -> None:
        path = saved(tmp_path, noise("L"), "labels.jpg")
        with pytest.raises(ImageError, match=r"JPEG.*PNG") as error:
            read_labels(path)
        check_one_line(error, path)

    def test_truncated(self, tmp_path: Path) -> None:
        path = saved(tmp_path, noise("L"), "cut.png")
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ImageError) as error:
            read_labels(path)
        check_one_line(error, path)


def write_grey_png(path: Path, values: np.ndarray, bits: int) -> None:
    """Pillow itself cannot write grey PNGs of 2 or 4 bits."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    rows = b""
    for row in values:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows += b"\0" + bytes(int(digits[start : start + 8], 2) for start in range(0, len(digits), 8))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
