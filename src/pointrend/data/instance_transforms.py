"""The augmentations that instance segmentation is trained with.

Every random choice comes from torch's global generator: seeding it fixes the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from pointrend.data.instances import InstancePicture, InstanceTargets, targets_of
from pointrend.data.transforms import PhotometricDistort, Window, below, nearest, resample, uniform


def instance_transform(
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    channels: str = "rgb",
    shortest: Sequence[int] = (800,),
    longest: int = 1333,
    scale: tuple[float, float] | None = None,
    crop: tuple[int, int] | None = None,
    flip: float = 0.5,
    dihedral: bool = False,
    photometric: bool = False,
    grayscale: float = 0.0,
) -> Callable[[InstancePicture], tuple[Tensor, InstanceTargets]]:
    """Scale, crop, flip, distort, normalise.

    The published recipes scale the shortest edge to one of several lengths and flip; microscopy, which has no up and
    down and few images, takes crops at random scales, turned and flipped.

    Args:
        mean, std: on the scale of 0 to 255, in the order of `channels`.
        channels: "rgb" or "bgr".
        shortest: lengths of the shortest edge, of which one is drawn ...
        longest: ... unless the longest edge would be longer than this.
        scale: the range of the factor by which images are scaled instead; drawn uniformly in its logarithm.
        crop: (h, w) of a random window of the scaled image; None takes it whole. A smaller image stays as it is.
        flip: probability of a horizontal flip.
        dihedral: one of the eight turns and flips of a square instead.
        photometric: whether to distort the colours, see `PhotometricDistort`.
        grayscale: probability of taking the colours away.
    """
    distort = PhotometricDistort()

    def transform(picture: InstancePicture) -> tuple[Tensor, InstanceTargets]:
        height, width = picture.pixels.shape[:2]
        if scale is not None:
            factor = math.exp(uniform(math.log(scale[0]), math.log(scale[1])))
        else:
            factor = min(shortest[below(len(shortest))] / min(height, width), longest / max(height, width))
        scaled = max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))
        picture = resized(picture, scaled, draw_window(scaled, crop or scaled))
        if dihedral:
            picture = turned(picture, below(8))
        elif uniform(0, 1) < flip:
            picture = turned(picture, 4)
        image = torch.tensor(picture.pixels).permute(2, 0, 1)
        if photometric:
            image, _ = distort(tv_tensors.Image(image), tv_tensors.Mask(torch.zeros(0, 0)))
        if uniform(0, 1) < grayscale:
            image = F.rgb_to_grayscale(image, num_output_channels=3)
        if channels == "bgr":
            image = image.flip(0)
        pixels = F.normalize(image.as_subclass(Tensor).float(), mean=list(mean), std=list(std))
        return pixels, targets_of(picture.masks)

    return transform


def draw_window(scaled: tuple[int, int], crop: tuple[int, int]) -> Window:
    """A random window of the crop's size, or of the scaled image's where that is smaller."""
    height, width = min(crop[0], scaled[0]), min(crop[1], scaled[1])
    return below(scaled[0] - height + 1), below(scaled[1] - width + 1), height, width


def resized(picture: InstancePicture, scaled: tuple[int, int], window: Window) -> InstancePicture:
    """A window of the picture resized to `scaled`: pixels with antialiasing, ids from the nearest pixel."""
    ids = np.stack([nearest(layer, scaled, window) for layer in picture.masks.ids]) if len(picture.masks.ids) else None
    if ids is None:
        ids = np.zeros((0, window[2], window[3]), np.int32)
    pixels = np.asarray(resample(picture.pixels, scaled, window))
    return InstancePicture(pixels, replace(picture.masks, ids=ids))


def turned(picture: InstancePicture, which: int) -> InstancePicture:
    """One of the eight turns and flips of a square: `which % 4` quarter turns after a horizontal flip from 4 on."""

    def apply(array: np.ndarray, rows: int, columns: int) -> np.ndarray:
        flipped = np.flip(array, columns) if which >= 4 else array
        return np.ascontiguousarray(np.rot90(flipped, which % 4, (rows, columns)))

    masks = replace(picture.masks, ids=apply(picture.masks.ids, 1, 2))
    return InstancePicture(apply(picture.pixels, 0, 1), masks)
