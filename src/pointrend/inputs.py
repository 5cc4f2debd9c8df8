"""What counts as an image, and the network's input that is made of it.

H W is the image's own size, h w the size at which the network sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from pointrend.data.images import ImageError, image_pixels, read_image
from pointrend.zoo.spec import InputSpec, InstanceTestSpec, TestSpec

ImageInput = str | Path | Image.Image | np.ndarray | Tensor
Channels = Literal["rgb", "bgr"]


def to_pixels(image: ImageInput, *, channels: Channels = "rgb") -> np.ndarray:
    """Any kind of image as an array (H, W, 3), uint8, RGB.

    Args:
        image: a path; a PIL image; an array (H, W, 3) uint8; a tensor (3, H, W), uint8 or float in [0, 1].
        channels: the order of arrays and tensors; OpenCV's is "bgr". Files and PIL images know their own.

    Returns:
        A new array, which does not change when `image` does.

    Raises:
        ValueError: anything else, or an unreadable file.
    """
    if channels not in ("rgb", "bgr"):
        raise ValueError(f"channels must be 'rgb' or 'bgr', got {channels!r}")
    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return _pil_pixels(image)
    if isinstance(image, np.ndarray):
        pixels = _array_pixels(image)
    elif isinstance(image, Tensor):
        pixels = _tensor_pixels(image)
    else:
        raise ValueError(f"expected a path, a PIL image, an array or a tensor, got {type(image).__name__}")
    return np.array(pixels[:, :, ::-1] if channels == "bgr" else pixels, order="C")


def _pil_pixels(image: Image.Image) -> np.ndarray:
    if 0 in image.size:
        raise ValueError(f"the image has no pixels: {image.width} x {image.height}")
    try:
        image.load()  # Pillow reads files late
    except (OSError, SyntaxError) as error:
        raise ImageError(f"the image is broken ({error})") from error
    return image_pixels(image)


def _array_pixels(array: np.ndarray) -> np.ndarray:
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or array.size == 0:
        raise ValueError(f"arrays must be (H, W, 3) uint8, got {array.shape} {array.dtype}")
    return array


def _tensor_pixels(tensor: Tensor) -> np.ndarray:
    if tensor.ndim != 3 or tensor.shape[0] != 3 or tensor.numel() == 0:
        raise ValueError(f"tensors must be (3, H, W), one image, got {tuple(tensor.shape)}")
    if tensor.is_floating_point():
        low, high = float(tensor.min()), float(tensor.max())
        if not (low >= 0.0 and high <= 1.0):  # also refuses NaN
            raise ValueError(f"float tensors must be in [0, 1], got [{low:.4g}, {high:.4g}]; do not normalise them")
        tensor = (tensor.detach().float() * 255.0).round().to(torch.uint8)
    elif tensor.dtype != torch.uint8:
        raise ValueError(f"tensors must be uint8 or float, got {tensor.dtype}")
    pixels: np.ndarray = tensor.detach().cpu().permute(1, 2, 0).numpy()
    return pixels


@dataclass(frozen=True)
class NetworkInput:
    """One image as the network wants it."""

    tensor: Tensor
    """(1, 3, h, w), normalised and padded at the right and bottom."""
    valid: tuple[int, int]
    """(h, w) without the padding."""


def test_size(size: tuple[int, int], test: TestSpec | InstanceTestSpec) -> tuple[int, int]:
    """The (h, w) an image of `size` (H, W) is resized to: shortest edge as wanted, longest edge not above its limit."""
    wanted = test.shortest / min(size)
    if isinstance(test, InstanceTestSpec) and test.scale is not None:
        wanted = test.scale
    scale = min(wanted, test.longest / max(size))
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


test_size.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def network_input(pixels: np.ndarray, *, input: InputSpec, test: TestSpec | InstanceTestSpec) -> NetworkInput:
    """Resize, order channels, normalise and pad an image (H, W, 3) uint8 RGB."""
    image = torch.tensor(pixels).permute(2, 0, 1)
    height, width = test_size((pixels.shape[0], pixels.shape[1]), test)
    image = F.resize(image, [height, width], antialias=True)
    if input.channels == "bgr":
        image = image.flip(0)
    image = F.normalize(image.float(), mean=list(input.mean), std=list(input.std))
    bottom, right = -height % test.pad_multiple, -width % test.pad_multiple
    return NetworkInput(tensor=F.pad(image, [0, 0, right, bottom]).unsqueeze(0), valid=(height, width))
