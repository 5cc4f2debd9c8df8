"""Reading images and label images, whatever they come as, or one line that says why not."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 300_000_000
"""Larger images are refused by their header. It stands in for Pillow's own limits; see `pixel_limit`."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Of the images and label images of data sets."""
PHOTO_SUFFIXES = IMAGE_SUFFIXES | {".avif", ".gif", ".jfif", ".jp2", ".jpe", ".mpo", ".pgm", ".ppm", ".tga"}
"""Of what counts as a photograph in a folder."""

_ORIENTATION = 0x0112
_SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})
# Pillow stretches grey values of 2 and 4 bits to 0..255: right for photographs, wrong for class indices.
_STRETCHED = {"L;2": 85, "L;4": 17}


_limit_lock = threading.Lock()
_limit_users = 0
_limit_before: int | None = None


class ImageError(ValueError):
    """A file that cannot be read as an image; the message is one line and begins with the path."""


class _GreyRangeError(ValueError):
    """Grey values outside of the range that stands for black to white."""


@contextmanager
def pixel_limit() -> Iterator[None]:
    """`MAX_PIXELS` instead of Pillow's own limits while the block runs, by default 89 million (warns), 179 (fails).

    Pillow refuses twice as many; the caller compares an image's size with the limit itself.
    """
    # Pillow has its limit in a global variable alone, and looks at it when a header is read and, for TIFF, again when
    # pixels are. To change it for good would be to decide for the whole program; warnings.catch_warnings is global as
    # well, and threads can end up with each other's filters. So it is replaced while the first to the last of those
    # who read at once are reading. What remains: an image that another part of the program opens meanwhile has our
    # limit, which is why it is never lifted altogether; and Pillow may warn of an image that is then refused.
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
    """Reads any image as RGB.

    EXIF orientation is applied. Grey becomes three equal channels; 16-bit values are scaled from 0..65535
    and floats from 0..1 to 0..255; transparency is composited on white; of an animation the first frame is
    read.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ImageError: the file is missing, no image, broken, too large, or not permitted to be read.
    """
    with _opened(path) as image:
        image.load()
        return image_pixels(image)


def image_pixels(image: Image.Image) -> np.ndarray:
    """A PIL image as (H, W, 3) uint8 RGB, by the rules of `read_image`."""
    return np.asarray(_to_rgb(_upright(image)))


def read_labels(path: Path) -> np.ndarray:
    """Reads a label image: its grey values or palette indices, never its colours.

    Returns:
        (H, W) uint8, raw label values.

    Raises:
        ImageError: as `read_image`; or the file has several channels, values over 255, or was saved as
            JPEG, which changes values.
    """
    with _opened(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise ImageError(f"{path}: labels must not be JPEG, which changes label values; save them as PNG")
        if image.mode not in {"L", "P", "1"} | _SIXTEEN_BIT:
            raise ImageError(
                f"{path}: labels must have one channel of class indices (grey or palette), got {image.mode}"
            )
        tile = getattr(image, "tile", None)
        rawmode = tile[0].args if tile else None
        if isinstance(rawmode, tuple):
            rawmode = rawmode[0]
        image.load()
        values = np.asarray(_upright(image))
        if values.size and (values.max() > 255 or values.min() < 0):
            raise ImageError(
                f"{path}: label values must lie in 0..255, found {values.min()} to {values.max()}"
                " (instance ids are no class indices)"
            )
        return values.astype(np.uint8) // np.uint8(_STRETCHED.get(str(rawmode), 1))


def read_ids(path: Path) -> np.ndarray:
    """Reads an image of ids: one number an object, of 8, 16 or 32 bits.

    Returns:
        (H, W) int32.

    Raises:
        ImageError: as `read_labels`, but values may be over 255.
    """
    with _opened(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise ImageError(f"{path}: ids must not be JPEG, which changes them; save them as PNG")
        if image.mode not in {"L", "P", "1"} | _SIXTEEN_BIT:
            raise ImageError(f"{path}: ids must have one channel, got {image.mode}")
        image.load()
        values = np.asarray(_upright(image)).astype(np.int32)
        if values.size and values.min() < 0:
            raise ImageError(f"{path}: ids must be 0 (nothing) or larger, found {values.min()}")
        return values


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of what `read_image` would return, by the file's header alone.

    Raises:
        ImageError: no such file, or not an image.
    """
    with _opened(path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def probe_image(path: Path) -> tuple[int, int]:
    """(H, W) of what `read_image` would return, from a file that was read to its end.

    Cheaper than reading it where the format allows: JPEG is decoded at an eighth of its size.

    Raises:
        ImageError: as `read_image`.
    """
    with _opened(path) as image:
        if image.format in ("JPEG", "MPO"):
            width, height = image.size
            image.draft("L", (1, 1))
            image.load()
        else:
            # Only then is the size known: Pillow turns TIFF upright itself.
            image.load()
            width, height = image.size
            if (top := _grey_top(image.mode)) is not None:
                _check_grey(np.asarray(image), top)
        return (width, height) if _orientation(image) >= 5 else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens an image; whatever goes wrong before the end of the block becomes an `ImageError`."""
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
        raise ImageError(f"{path}: permission to read was denied") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise ImageError(f"{path}: {'the file is empty' if empty else 'not an image that can be read'}") from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        struct.error,
    ) as error:
        # What Pillow's decoders raise on broken data is not documented; all of these have been seen.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: the image is broken ({reason})") from error
    except MemoryError as error:
        raise ImageError(f"{path}: not enough memory{size}") from error


def _too_large(path: Path) -> ImageError:
    return ImageError(f"{path}: has more than {MAX_PIXELS // 10**6} million pixels; make it smaller")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) if there is none or it is broken: the pixels are still good."""
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
    """The value that is white in a mode whose values need scaling."""
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
