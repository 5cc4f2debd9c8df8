"""Distortions of an image's colours.

A transform gets an image (3, H, W) uint8 and leaves everything else alone. All random numbers come from torch's global
generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from pointrend.data.windows import uniform

BRIGHTNESS = 32.0
"""Maximum change of brightness in grey levels of 0 to 255."""
FACTORS = (0.5, 1.5)
"""What contrast, about black, and saturation are multiplied by."""
HUE = 18
"""Maximum change of hue in steps of 2 degrees, OpenCV's unit, in which the published training draws whole numbers."""


class PhotometricDistort(v2.Transform):
    """A transform that changes brightness, contrast, saturation and hue, each with probability 0.5.

    It is the distortion of mmsegmentation's published training, there with these numbers: a number from -32 to 32 is
    added to all grey levels; they are multiplied by 0.5 to 1.5, which is contrast about black, before saturation or
    last; saturation in HSV is multiplied by 0.5 to 1.5; hue is turned by -36 to 34 degrees. Values are clipped to 0 to
    255 and rounded down after each step. Colour channels are never permuted.
    """

    _transformed_types = (tv_tensors.Image,)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Return the distorted image (3, H, W) uint8."""
        image = _picture(inpt)
        if _chosen():
            image = _looked_up(image, _grey_levels(shift=uniform(-BRIGHTNESS, BRIGHTNESS)))
        contrast_last = _chosen()
        if not contrast_last:
            image = _with_contrast(image)
        image = _with_colors(image)
        if contrast_last:
            image = _with_contrast(image)
        return tv_tensors.Image(F.pil_to_tensor(image))


class MildPhotometricDistort(v2.Transform):
    """A transform as `PhotometricDistort` that changes brightness, contrast and saturation about a fourth as much.

    The bundled models were trained with it. Brightness is multiplied by 0.875 to 1.125, contrast changes about the
    image's mean, saturation is a blend with grey, and hue turns by up to 36 degrees.
    """

    _transformed_types = (tv_tensors.Image,)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Return the distorted image (3, H, W) uint8."""
        steps = [(F.adjust_brightness, 0.875, 1.125), (F.adjust_saturation, *FACTORS), (F.adjust_hue, -0.1, 0.1)]
        steps.insert(len(steps) if _chosen() else 1, (F.adjust_contrast, *FACTORS))
        image: Any = _picture(inpt)
        for adjust, low, high in steps:
            if _chosen():
                image = adjust(image, uniform(low, high))
        return tv_tensors.Image(F.pil_to_tensor(image))


def _chosen() -> bool:
    return uniform(0, 1) < 0.5


def _picture(image: tv_tensors.Image) -> Image.Image:
    # On Pillow images HSV takes half the time that it takes on tensors.
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def _grey_levels(*, factor: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Return the table (256,) of `value * factor + shift`, clipped and rounded down."""
    table: np.ndarray = np.clip(np.arange(256) * factor + shift, 0, 255).astype(np.uint8)
    return table


def _looked_up(image: Image.Image, table: np.ndarray) -> Image.Image:
    return image.point(table.tolist() * len(image.getbands()))


def _with_contrast(image: Image.Image) -> Image.Image:
    return _looked_up(image, _grey_levels(factor=uniform(*FACTORS))) if _chosen() else image


def _with_colors(image: Image.Image) -> Image.Image:
    """Change saturation and hue, each with probability 0.5."""
    saturation = _grey_levels(factor=uniform(*FACTORS)) if _chosen() else None
    hue = _hues(int(torch.randint(-HUE, HUE, ()))) if _chosen() else None
    if saturation is None and hue is None:
        return image
    bands = list(image.convert("HSV").split())
    for band, table in enumerate((hue, saturation)):
        if table is not None:
            bands[band] = _looked_up(bands[band], table)
    return Image.merge("HSV", bands).convert("RGB")


def _hues(steps: int) -> np.ndarray:
    """Return the table (256,) that turns hue by steps of 2 degrees; in Pillow's HSV 255 is the whole circle."""
    turned: np.ndarray = np.rint((np.arange(256) + steps * 255 / 180) % 255).astype(np.uint8)
    return turned
