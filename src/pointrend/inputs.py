"""Read all kinds of images, and compute the network's input from them.

Shapes: H W the image's own size, h w the size at which the network sees it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from pointrend.data.images import BROKEN, ImageError, Photo, image_pixels, read_photo
from pointrend.data.intensity import GreyRangeError, to_bytes
from pointrend.data.reading import Reading
from pointrend.data.settings import InputSpec
from pointrend.errors import PointRendError, printable
from pointrend.spec import TestSpec

ImageInput = str | Path | Image.Image | np.ndarray | Tensor
Channels = Literal["rgb", "bgr"]


def is_batch(image: object) -> TypeGuard[Iterable[ImageInput]]:
    """Return whether an argument holds several images: a list, a generator, a batch (N, 3, H, W) or (N, H, W, 3)."""
    if isinstance(image, (np.ndarray, Tensor)):
        return image.ndim == 4
    return isinstance(image, Iterable) and not isinstance(image, (str, bytes, Path, Image.Image))


def to_photo(image: ImageInput, *, channels: Channels = "rgb", reading: Reading = Reading()) -> Photo:
    """Return any kind of image as an array (H, W, 3), uint8, RGB, with notes.

    Args:
        image: a path; a PIL image; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a tensor with the channels
            first. Values are uint8, uint16 from 0 to 65535, or floats in [0, 1], unless `reading` scales them.
            Transparent pixels become white.
        channels: the order in arrays and tensors; OpenCV's is "bgr". It does not concern files and PIL images.
        reading: the page of a file, one channel of it, and how values of more than 8 bits are scaled.

    Returns:
        A new array, which does not change when `image` does, and what was chosen or scaled.

    Raises:
        PointRendError: it is something else, or an unreadable file.
    """
    if channels not in ("rgb", "bgr"):
        raise PointRendError(f"channels must be 'rgb' or 'bgr', got {channels!r}")
    if isinstance(image, (str, Path)):
        return read_photo(Path(image), reading)
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise PointRendError(f"the image has no pixels: {image.width} x {image.height}")
        try:
            image.load()  # Pillow reads files lazily
        except BROKEN as error:
            raise ImageError(f"the image is broken ({printable(str(error), length=200)})") from error
        return image_pixels(image, reading)
    if isinstance(image, Tensor):
        if image.ndim not in (2, 3):
            raise PointRendError(f"a tensor of one image must be (3, H, W), got {tuple(image.shape)}")
        tensor = image.detach().cpu()
        tensor = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        array = (tensor if tensor.ndim == 2 else tensor.permute(1, 2, 0)).numpy()
        return _array_photo(array, channels, "tensors", reading)
    if isinstance(image, np.ndarray):
        return _array_photo(image, channels, "arrays", reading)
    if isinstance(image, (bytes, bytearray, memoryview)):
        raise PointRendError("got bytes; decode them first: PIL.Image.open(io.BytesIO(data))")
    raise PointRendError(
        f"expected a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W), got {type(image).__name__}"
    )


def _array_photo(array: np.ndarray, channels: Channels, kind: str, reading: Reading) -> Photo:
    """Convert an array (H, W) or (H, W, 1, 3 or 4) to RGB; `kind` names it in errors."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.size == 0:
        layout = "(H, W, 3)" if kind == "arrays" else "(3, H, W)"
        shape = array.shape if kind == "arrays" else (*array.shape[2:], *array.shape[:2])
        raise PointRendError(f"{kind} must be {layout}, grey or with transparency, of one image, got {shape}")
    if array.dtype not in (np.uint8, np.uint16) and array.dtype.kind != "f":
        raise PointRendError(f"{kind} must be uint8, uint16 or floats in [0, 1], got {array.dtype}")
    if array.shape[2] > 1 and channels == "bgr":
        array = array[:, :, [2, 1, 0, 3][: array.shape[2]]]
    colors, opaque = (array[:, :, :3], array[:, :, 3:]) if array.shape[2] == 4 else (array, None)
    if reading.channel is not None and reading.channel > colors.shape[2]:
        raise PointRendError(f"{kind} have {colors.shape[2]} channels, channel {reading.channel} was asked for")
    try:
        pixels, notes = to_bytes(colors, reading.scaling)
        alpha = None if opaque is None else to_bytes(opaque, "full")[0].astype(np.uint16)
    except GreyRangeError as error:
        raise PointRendError(f"{kind}: {error}") from error
    if alpha is not None:
        pixels = ((pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    if reading.channel is not None:
        pixels = pixels[:, :, reading.channel - 1 : reading.channel]
    return Photo(np.array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), order="C"), notes)


@dataclass(frozen=True)
class Frame:
    """The sizes that map the network's input back to the image."""

    padded: tuple[int, int]
    """(h, w) of the network's input."""
    valid: tuple[int, int]
    """(h, w) without the padding, which lies at the right and bottom."""
    size: tuple[int, int]
    """(H, W) of the image."""


def test_size(size: tuple[int, int], test: TestSpec) -> tuple[int, int]:
    """Return the (h, w) to which an image of `size` (H, W) is resized: by its shortest edge, unless the longest edge
    would exceed its limit."""
    wanted = test.shortest / min(size) if test.scale is None else test.scale
    scale = min(wanted, test.longest / max(size))
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


test_size.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def network_input(pixels: np.ndarray, *, input: InputSpec, test: TestSpec) -> tuple[Tensor, Frame]:
    """Resize, order channels, normalise and pad an image (H, W, 3) uint8 RGB.

    Returns:
        (1, 3, h, w) float32, and its frame.
    """
    size = (pixels.shape[0], pixels.shape[1])
    return padded(normalised(pixels, test_size(size, test), input), test.pad_multiple, size)


def normalised(pixels: np.ndarray, size: tuple[int, int], input: InputSpec) -> Tensor:
    """Resize an image (H, W, 3) uint8 RGB to `size` (h, w), order its channels and normalise: (3, h, w) float32."""
    image = F.resize(torch.tensor(pixels).permute(2, 0, 1), list(size), antialias=input.antialias)
    if input.channels == "bgr":
        image = image.flip(0)
    normal: Tensor = F.normalize(image.float(), mean=list(input.mean), std=list(input.std))
    return normal


def padded(image: Tensor, multiple: int, size: tuple[int, int]) -> tuple[Tensor, Frame]:
    """Pad a normalised image (3, h, w) with zeros to a multiple; `size` (H, W) is that of its result.

    Returns:
        (1, 3, ., .), and its frame.
    """
    height, width = image.shape[1:]
    bottom, right = -height % multiple, -width % multiple
    images = F.pad(image, [0, 0, right, bottom]).unsqueeze(0)
    return images, Frame(padded=(height + bottom, width + right), valid=(height, width), size=size)
