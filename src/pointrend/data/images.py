"""Functions that read images, label images and id images in all common formats."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pointrend.errors import PointRendError, printable

MAX_PIXELS = 300_000_000
"""Larger images are refused after reading their header. This replaces Pillow's limits; see `pixel_limit`."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Suffixes of the images and label images of data sets."""
PHOTO_SUFFIXES = IMAGE_SUFFIXES | {".avif", ".gif", ".jfif", ".jp2", ".jpe", ".mpo", ".pgm", ".ppm", ".tga"}
"""Suffixes of the photos that commands look for in a folder."""

BROKEN = (
    OSError,
    ValueError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on broken data, which it does not document."""

_ORIENTATION = 0x0112
_SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})
# Pillow stretches grey values of 2 and 4 bits to 0..255, which is wrong for class indices.
_STRETCHED = {"L;2": 85, "L;4": 17}

_limit_lock = threading.Lock()
_limit_users = 0
_limit_before: int | None = None


class ImageError(PointRendError):
    """An image that cannot be read; the message is one line and begins with the path."""


class _GreyRangeError(ValueError):
    """Grey values outside the range from black to white."""


@contextmanager
def pixel_limit() -> Iterator[None]:
    """Replace Pillow's limits (89 million pixels warns, 179 million fails) by `MAX_PIXELS` within the block.

    Pillow only fails above twice its limit, so the caller must compare an image's size to `MAX_PIXELS` itself.
    """
    # Pillow's limit is a global variable that is read with the header and, for TIFF, again with the pixels. Changing it
    # for good would decide for the whole program, and warnings.catch_warnings is not thread-safe. So the limit is
    # replaced as long as any thread reads. Remaining effects: images that other code opens meanwhile get our limit,
    # which is why it is not removed altogether; and Pillow may warn about an image that is then refused.
    global _limit_users, _limit_before
    with _limit_lock:
        if _limit_users == 0:
            _limit_before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS
        _limit_users += 1
    try:
        yield
    finally:
        with _limit_lock:
            _limit_users -= 1
            if _limit_users == 0:
                Image.MAX_IMAGE_PIXELS = _limit_before


def read_image(path: Path) -> np.ndarray:
    """Read any image as (H, W, 3) uint8 RGB.

    EXIF orientation is applied. Grey becomes three equal channels; 16-bit values are scaled from 0..65535 and floats
    from 0..1 to 0..255; transparency is composited on white; the first frame of an animation is read.

    Raises:
        ImageError: the file is missing, not an image, broken, too large, or reading it is not permitted.
    """
    with _opened(path) as image:
        image.load()
        return image_pixels(image)


def image_pixels(image: Image.Image) -> np.ndarray:
    """Convert a PIL image to (H, W, 3) uint8 RGB, by the rules of `read_image`."""
    return np.asarray(_to_rgb(_upright(image)))


def read_labels(path: Path) -> np.ndarray:
    """Read the raw label values (H, W) uint8 of a label image: its grey values or palette indices, never its colours.

    Raises:
        ImageError: as `read_image`; or the file is JPEG, has several channels or values over 255.
    """
    with _opened(path) as image:
        _check_values_kept(path, image, "labels", " of class indices (grey or palette)")
        tile = getattr(image, "tile", None)
        rawmode = tile[0].args if tile else None
        if isinstance(rawmode, tuple):
            rawmode = rawmode[0]
        image.load()
        values = np.asarray(_upright(image))
        if values.size and (values.max() > 255 or values.min() < 0):
            raise ImageError(
                f"{path}: label values must be in 0..255, found {values.min()} to {values.max()}"
                " (an id image of instances?)"
            )
        return values.astype(np.uint8) // np.uint8(_STRETCHED.get(str(rawmode), 1))


def read_ids(path: Path) -> np.ndarray:
    """Read an id image of 8, 16 or 32 bits as (H, W) int32.

    Raises:
        ImageError: as `read_labels`, but values may be over 255.
    """
    with _opened(path) as image:
        _check_values_kept(path, image, "ids")
        image.load()
        values = np.asarray(_upright(image)).astype(np.int32)
        if values.size and values.min() < 0:
            raise ImageError(f"{path}: ids must be 0 (background) or larger, found {values.min()}")
        return values


def _check_values_kept(path: Path, image: Image.Image, what: str, kind: str = "") -> None:
    if image.format in ("JPEG", "MPO"):
        raise ImageError(f"{path}: {what} must not be JPEG, which changes their values; save them as PNG")
    if image.mode not in {"L", "P", "1"} | _SIXTEEN_BIT:
        raise ImageError(f"{path}: {what} must have one channel{kind}, got {image.mode}")


def image_size(path: Path) -> tuple[int, int]:
    """Return the size (H, W) of `read_image`'s result, from the file's header; raise `ImageError` as it does."""
    with _opened(path) as image:
        return _upright_size(image, image.size)


def probe_image(path: Path) -> tuple[int, int]:
    """Read the file to its end and return the size (H, W) of `read_image`'s result; raise `ImageError` as it does.

    It is faster than `read_image` for JPEG, which is decoded at an eighth of its size.
    """
    with _opened(path) as image:
        if image.format in ("JPEG", "MPO"):
            size = image.size
            image.draft("L", (1, 1))
            image.load()
        else:
            image.load()  # before the size is taken: Pillow turns TIFF upright itself
            size = image.size
            if (top := _grey_top(image.mode)) is not None:
                _check_grey(np.asarray(image), top)
        return _upright_size(image, size)


def _upright_size(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """Return (H, W) after EXIF orientation is applied to a size (W, H)."""
    width, height = size
    return (width, height) if _orientation(image) >= 5 else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image; every failure within the block becomes an `ImageError`."""
    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path}: is a folder, not an image")
    size = ""
    try:
        with pixel_limit(), Image.open(path) as image:
            size = f" for {image.width} x {image.height} pixels"
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(path)
            yield image
    except ImageError:
        raise
    except _GreyRangeError as error:
        raise ImageError(f"{path}: {error}") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"{path}: no such file") from error
    except PermissionError as error:
        raise ImageError(f"{path}: no permission to read this file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        reason = "the file is empty" if empty else "not an image, or of an unsupported format"
        raise ImageError(f"{path}: {reason}") from error
    except BROKEN as error:
        reason = printable(" ".join(str(error).split()), length=200) or type(error).__name__
        raise ImageError(f"{path}: the image is broken ({reason})") from error
    except MemoryError as error:
        raise ImageError(f"{path}: not enough memory{size}") from error


def _too_large(path: Path) -> ImageError:
    return ImageError(f"{path}: has more than {MAX_PIXELS // 10**6} million pixels; make it smaller")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if it is missing or broken."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: Image.Image) -> Image.Image:
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if (top := _grey_top(image.mode)) is not None:
        return _grey_to_rgb(np.asarray(image), top)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _grey_top(mode: str) -> int | None:
    """Return the value of white in a mode whose values need scaling, else None."""
    if mode in _SIXTEEN_BIT:
        return 65535
    return 1 if mode == "F" else None


def _check_grey(values: np.ndarray, top: int) -> None:
    if values.size and not (values.min() >= 0 and values.max() <= top):  # also refuses NaN
        raise _GreyRangeError(
            f"grey values of {values.dtype} must lie in 0..{top}, found {values.min()} to {values.max()}; scale them"
        )


def _grey_to_rgb(values: np.ndarray, top: int) -> Image.Image:
    _check_grey(values, top)
    grey = (values.astype(np.float64) * (255 / top)).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
