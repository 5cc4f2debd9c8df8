"""Functions that read images, label images and id images in all common formats."""

from __future__ import annotations

import re
import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pointrend.data.intensity import GreyRangeError, limits, to_bytes
from pointrend.data.reading import Reading
from pointrend.data.tiff import is_deep_color, read_deep, stored_size, white_is_zero
from pointrend.errors import PointRendError, printable, warn

MAX_PIXELS = 300_000_000
"""Larger images are refused after reading their header. This replaces Pillow's limits; see `pixel_limit`."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Suffixes of the images and label images of data sets."""
PHOTO_SUFFIXES = IMAGE_SUFFIXES | {
    ".avif",
    ".gif",
    ".heic",
    ".heif",
    ".jfif",
    ".jp2",
    ".jpe",
    ".mpo",
    ".pgm",
    ".ppm",
    ".tga",
}
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
DEEP_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I", "F"})
"""Pillow's modes of grey values of more than 8 bits."""
# Pillow stretches grey values of 2 and 4 bits to 0..255, which is wrong for class indices.
_STRETCHED = {"L;2": 85, "L;4": 17}
_MAX_ID = 2**31 - 1

_limit_lock = threading.Lock()
_limit_users = 0
_limit_before: int | None = None


class ImageError(PointRendError):
    """An image that cannot be read; the message is one line and begins with the path."""


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


@dataclass(frozen=True, eq=False)
class Photo:
    """An image file that was read."""

    pixels: np.ndarray
    """(H, W, 3) uint8 RGB."""
    notes: tuple[str, ...] = ()
    """What was chosen or scaled, for the user."""


def read_image(path: Path, reading: Reading = Reading()) -> np.ndarray:
    """Read any image as (H, W, 3) uint8 RGB.

    EXIF orientation is applied. Grey becomes three equal channels; values of more than 8 bits are scaled as `reading`
    says; transparency is composited on white. What `read_photo` would note is warned of.

    Raises:
        ImageError: the file is missing, not an image, broken, too large, or reading it is not permitted.
    """
    photo = read_photo(path, reading)
    for note in photo.notes:
        warn(f"{path}: {note}")
    return photo.pixels


def read_photo(path: Path, reading: Reading = Reading()) -> Photo:
    """Read any image as `read_image` does, with notes."""
    path = Path(path)
    with opened(path) as image:
        pages = page_count(image)
        page = reading.page or 1
        if page > pages:
            raise ImageError(f"{path}: has {pages} page{'s' if pages > 1 else ''}, page {page} was asked for")
        image.seek(page - 1)
        notes = (f"has {pages} pages, of which only the first was read; choose with --page N or all (page=N)",)
        if is_deep_color(image):
            stored = read_deep(path, page=page, png=image.format == "PNG")
            if image.mode == "LA":  # grey with transparency becomes colour with transparency
                stored = stored[:, :, [0, 0, 0, 1]]
            pixels, scaled = _deep_pixels(_turned(stored, _orientation(image)), reading)
        else:
            image.load()
            pixels, scaled = _pixels(image, reading)
        return Photo(pixels, (*(notes if pages > 1 and reading.page is None else ()), *scaled))


def pages_of(path: Path) -> int:
    """Return the number of pages or frames of an image file; raise `ImageError` as `read_image` does."""
    with opened(Path(path)) as image:
        return page_count(image)


def image_pixels(image: Image.Image, reading: Reading = Reading()) -> Photo:
    """Convert a PIL image to (H, W, 3) uint8 RGB, by the rules of `read_image`."""
    return Photo(*_pixels(image, reading))


def read_labels(path: Path) -> np.ndarray:
    """Read the raw label values (H, W) uint8 of a label image: its grey values or palette indices, never its colours.

    Raises:
        ImageError: as `read_image`; or the file is JPEG, has several channels or pages, or values that are not 0 to
            255.
    """
    values = _values(path, "labels", " of class indices (grey or palette)")
    if values.size and (values.max() > 255 or values.min() < 0):
        raise ImageError(
            f"{path}: label values must be in 0..255, found {values.min():g} to {values.max():g} "
            "(an id image of instances?)"
        )
    return values.astype(np.uint8)


def read_ids(path: Path) -> np.ndarray:
    """Read an id image of integers, or of floats that are whole numbers, as (H, W) int32.

    Raises:
        ImageError: as `read_labels`, but values may be over 255.
    """
    values = _values(path, "ids")
    if values.size and (values.min() < 0 or values.max() > _MAX_ID):
        raise ImageError(f"{path}: ids must be 0 (background) to {_MAX_ID}, found {values.min():g} to {values.max():g}")
    return values.astype(np.int32)


def image_size(path: Path) -> tuple[int, int]:
    """Return the size (H, W) of `read_image`'s result, from the file's header.

    Raises:
        ImageError: as `read_image`, or the file has several pages, which images of data sets must not have.
    """
    with opened(path) as image:
        ensure_one_page(path, image)
        return _upright_size(image)


def probe_image(path: Path, reading: Reading = Reading()) -> tuple[int, int]:
    """Read the file to its end and return the size (H, W) of `read_image`'s result.

    Raises:
        ImageError: as `image_size`, or its values cannot be scaled as `reading` says.

    It is faster than `read_image` for JPEG, which is decoded at an eighth of its size.
    """
    with opened(path) as image:
        ensure_one_page(path, image)
        size = _upright_size(image)
        if image.format in ("JPEG", "MPO"):
            image.draft("L", (1, 1))
        image.load()
        if image.mode in DEEP_MODES:
            limits(np.asarray(image), reading.scaling)
        return size


def ensure_one_page(path: Path, image: Image.Image) -> None:
    """Raise `ImageError` if an opened file has several pages."""
    if (pages := page_count(image)) > 1:
        raise ImageError(f"{path}: has {pages} pages; a data set has one image a file: split them, or keep one")


def page_count(image: Image.Image) -> int:
    """Return the number of pages or frames of an opened file; 1 for MPO, where others are depth or previews."""
    return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (H, W) after EXIF orientation is applied, before the image is loaded."""
    height, width = stored_size(image) or (image.height, image.width)
    return (width, height) if _orientation(image) >= 5 else (height, width)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image; every failure within the block becomes an `ImageError`."""
    path = Path(path)
    size = ""
    try:
        _ensure_file(path)
        _register_heif(path)
        with pixel_limit(), Image.open(path) as image:
            size = f" for {image.width} x {image.height} pixels"
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(path)
            yield image
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        url = re.match(r"[A-Za-z]{2,}:/", str(path))
        raise ImageError(f"{path}: {'URLs are not read; download it first' if url else 'no such file'}") from error
    except PermissionError as error:
        raise ImageError(f"{path}: no permission to read this file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: {_unidentified(path)}") from error
    except ImportError as error:
        raise ImageError(f"{path}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: not enough memory{size}") from error
    except (PointRendError, GreyRangeError) as error:
        raise ImageError(f"{path}: {error}") from error
    except BROKEN as error:
        reason = printable(" ".join(str(error).split()) or type(error).__name__, length=200)
        raise ImageError(f"{path}: the image is broken ({reason})") from error


def _ensure_file(path: Path) -> None:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ImageError(f"{path}: is a folder, not an image")
    if not stat.S_ISREG(mode):  # reading a pipe would wait for ever
        raise ImageError(f"{path}: is not a regular file")


def _register_heif(path: Path) -> None:
    """Let Pillow read HEIC if pillow-heif is installed."""
    if path.suffix.lower() in (".heic", ".heif"):
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return
        register_heif_opener()


def _unidentified(path: Path) -> str:
    if path.stat().st_size == 0:
        return "the file is empty"
    if path.suffix.lower() in (".heic", ".heif"):
        return "HEIC is read if pillow-heif is installed (pip install pillow-heif); or convert it to JPEG"
    return "not an image, or of an unsupported format"


def _too_large(path: Path) -> ImageError:
    return ImageError(f"{path}: has more than {MAX_PIXELS // 10**6} million pixels; make it smaller")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if it is missing or broken."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(image: Image.Image) -> Image.Image:
    """Return a loaded image with its EXIF orientation applied."""
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation to (H, W, C)."""
    if orientation in (2, 3, 7, 8):
        array = array[:, ::-1]
    if orientation in (3, 4, 6, 7):
        array = array[::-1]
    return array.swapaxes(0, 1) if orientation >= 5 else array


def _pixels(image: Image.Image, reading: Reading) -> tuple[np.ndarray, tuple[str, ...]]:
    inverted = image.mode in DEEP_MODES and white_is_zero(image)
    image = upright(image)
    if image.mode in DEEP_MODES:
        _check_channel(reading, 1)
        values, notes = to_bytes(np.asarray(image), reading.scaling, white_is_zero=inverted)
        return np.repeat(values[..., None], 3, axis=2), notes
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return _colors(np.asarray(image.convert("RGB")), reading)


def _deep_pixels(values: np.ndarray, reading: Reading) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (H, W, 3) uint8 from values (H, W, C) of more than 8 bits."""
    if values.shape[2] not in (1, 3, 4) and reading.channel is None:
        raise PointRendError(
            f"has {values.shape[2]} channels; choose one with --channel 1 to {values.shape[2]} (channel=N)"
        )
    if values.shape[2] != 4 or reading.channel is not None:
        return _colors(values, reading)
    colors, notes = _colors(values[:, :, :3], reading)
    opaque = values[:, :, 3:] / np.iinfo(values.dtype).max if values.dtype.kind == "u" else values[:, :, 3:]
    return (colors * opaque + 255 * (1 - opaque)).round().clip(0, 255).astype(np.uint8), notes


def _colors(values: np.ndarray, reading: Reading) -> tuple[np.ndarray, tuple[str, ...]]:
    if reading.channel is not None:
        _check_channel(reading, values.shape[2])
        values = values[:, :, reading.channel - 1 : reading.channel]
    scaled, notes = to_bytes(values, reading.scaling)
    return (np.repeat(scaled, 3, axis=2) if scaled.shape[2] == 1 else np.ascontiguousarray(scaled)), notes


def _check_channel(reading: Reading, channels: int) -> None:
    if reading.channel is not None and reading.channel > channels:
        raise PointRendError(f"has {channels} channel{'s' * (channels > 1)}, channel {reading.channel} was asked for")


def _values(path: Path, what: str, kind: str = "") -> np.ndarray:
    with opened(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise ImageError(f"{path}: {what} must not be JPEG, which changes their values; save them as PNG")
        if image.mode not in {"L", "P", "1"} | DEEP_MODES:
            raise ImageError(f"{path}: {what} must have one channel{kind}, got {image.mode}")
        ensure_one_page(path, image)
        rawmode, inverted = _rawmode(image), white_is_zero(image) and image.mode in ("L", "1")
        image.load()
        values = np.asarray(upright(image))
        if inverted:  # Pillow has exchanged black and white, which are no colours here
            values = ~values if image.mode == "1" else 255 - values
        if image.mode == "F":
            if not (np.isfinite(values).all() and (values == np.rint(values)).all()):
                raise ImageError(f"{path}: {what} must be whole numbers, got floats with fractions")
            return values.astype(np.float64)
        return values // _STRETCHED.get(rawmode, 1)


def _rawmode(image: Image.Image) -> str:
    """Return Pillow's name of the file's grey format, such as "L;4"; of inverted grey ("L;4I") that of plain grey."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else None
    return str(arguments[0] if isinstance(arguments, tuple) else arguments).removesuffix("I").removesuffix("R")
