"""Reading images and label images, whatever they come as, or one line that says why not."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 300_000_000
"""Larger images are refused by their header. Pillow's own limit, 179 million by default, holds as well."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

_ORIENTATION = 0x0112
_SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})
# Pillow stretches grey values of 2 and 4 bits to 0..255: right for photographs, wrong for class indices.
_STRETCHED = {"L;2": 85, "L;4": 17}


class ImageError(ValueError):
    """A file that cannot be read as an image; the message is one line and begins with the path."""


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
        return (width, height) if _orientation(image) >= 5 else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens an image; whatever goes wrong before the end of the block becomes an `ImageError`."""
    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path}: is a folder, not an image")
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{path}: has {width} x {height} pixels, at most {MAX_PIXELS} are read; make it smaller"
                )
            yield image
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"{path}: no such file") from error
    except PermissionError as error:
        raise ImageError(f"{path}: permission to read was denied") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path}: the image has too many pixels to be read; make it smaller") from error
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
        raise ImageError(f"{path}: not enough memory for {width} x {height} pixels") from error


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
    if image.mode in _SIXTEEN_BIT:
        return _grey_to_rgb(np.asarray(image), 65535)
    if image.mode == "F":
        return _grey_to_rgb(np.asarray(image), 1)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _grey_to_rgb(values: np.ndarray, top: int) -> Image.Image:
    if values.size and not (values.min() >= 0 and values.max() <= top):
        raise ValueError(f"grey values must lie in 0..{top}, found {values.min()} to {values.max()}")
    grey = (values.astype(np.float64) * (255 / top)).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
