"""What Pillow does not read of TIFF files: more than 8 bits of colour, more than four channels, WhiteIsZero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

_WIDTH, _LENGTH, _BITS, _PHOTOMETRIC = 256, 257, 258, 262


def tag(image: Image.Image, number: int) -> object:
    """Return the value of a tag of an opened TIFF file; None for other formats, and if it has none."""
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(number)


def white_is_zero(image: Image.Image) -> bool:
    """Return whether the file says that small values are light."""
    return tag(image, _PHOTOMETRIC) == 0


def stored_size(image: Image.Image) -> tuple[int, int] | None:
    """Return (H, W) of the pixels as they lie in the file, which newer Pillows already turn upright in `size`."""
    height, width = tag(image, _LENGTH), tag(image, _WIDTH)
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def is_deep_color(image: Image.Image) -> bool:
    """Return whether an opened file has several channels of more than 8 bits, of which Pillow keeps 8."""
    if image.format == "TIFF":
        bits = tag(image, _BITS)
        return isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8
    tiles = getattr(image, "tile", None) or [None]
    arguments = getattr(tiles[0], "args", None)
    rawmode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return (
        image.format == "PNG" and image.mode != "I;16" and ";16" in str(rawmode) and image.mode in ("RGB", "RGBA", "LA")
    )


def read_deep(path: Path, *, page: int = 1, png: bool = False) -> np.ndarray:
    """Read a page (counted from 1) of a TIFF file, or a PNG file, as it is stored: (H, W, C), any number type.

    Raises:
        ImportError: TIFF files need tifffile.
        Exception: whatever the decoders raise on damaged files.
    """
    if png:
        from torchvision.io import ImageReadMode, decode_image

        decoded: np.ndarray = decode_image(str(path), ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
        return decoded
    try:
        from tifffile import TiffFile
    except ImportError as error:
        raise ImportError(
            "TIFF files with several channels of more than 8 bits need tifffile: pip install tifffile"
        ) from error
    with TiffFile(path) as file:
        stored = file.pages[page - 1]
        array, axes = np.asarray(stored.asarray()), stored.axes
    if array.ndim == 2:
        return array[:, :, None]
    if axes == "SYX":
        return np.moveaxis(array, 0, 2)
    if axes != "YXS":
        raise ValueError(f"its axes are {axes}")
    return array
