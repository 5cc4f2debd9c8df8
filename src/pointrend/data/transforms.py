"""The augmentations of both tasks, on torchvision.transforms.v2.

A transform gets an image (3, H, W) uint8 and its train ids as `tv_tensors.Mask` (H, W) uint8, or its `InstanceMasks`,
whose layers of ids are a `tv_tensors.Mask` (K, H, W). All random numbers come from torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from pointrend.data.batches import InstanceTargets, targets_of
from pointrend.data.classes import IGNORE
from pointrend.data.colors import MildPhotometricDistort, PhotometricDistort
from pointrend.data.samples import InstanceMasks
from pointrend.data.settings import InputSpec, InstanceAugment, SemanticAugment
from pointrend.data.windows import (
    Window,
    draw_window,
    interpolate,
    largest_ratio,
    nearest,
    resample,
    rotated_window,
    uniform,
)


def train_transform(
    augment: SemanticAugment | InstanceAugment, input: InputSpec
) -> Callable[[tv_tensors.Image, Any], tuple[Tensor, Any]]:
    """Return the transform for training: scale, crop, flip or turn, distort colours, normalise.

    It returns the image (3, h, w) float32 with labels (h, w) int64, both padded to the crop's size, or with
    `InstanceTargets`, at any size.
    """
    steps: list[nn.Module]
    if isinstance(augment, SemanticAugment):
        fill = input.mean if input.channels == "rgb" else input.mean[::-1]
        steps = [SemanticWindow(augment, fill=fill, antialias=input.antialias), v2.RandomHorizontalFlip(augment.flip)]
        ids = torch.int64
        end: list[nn.Module] = [PadTo(augment.crop), v2.ToPureTensor()]
    else:
        turn = RandomTurn() if augment.dihedral else v2.RandomHorizontalFlip(augment.flip)
        steps, ids, end = [InstanceWindow(augment, antialias=input.antialias), turn], torch.int32, [ToTargets()]
    if augment.photometric != "none":
        steps.append(PhotometricDistort() if augment.photometric == "published" else MildPhotometricDistort())
    if augment.grayscale:
        steps.append(v2.RandomGrayscale(augment.grayscale))
    if input.channels == "bgr":
        steps.append(v2.Lambda(_reverse_channels, tv_tensors.Image))
    steps.append(v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: ids}, scale=False))
    steps.append(v2.Normalize(mean=list(input.mean), std=list(input.std)))
    return v2.Compose([*steps, *end])


class InstanceWindow(v2.Transform):
    """A transform that resizes an image and its masks by a random factor and takes a random window, or a smaller whole.

    The result equals resizing the whole image and cropping, but only the window's pixels are resampled.
    """

    _transformed_types = (tv_tensors.Image, tv_tensors.Mask)

    def __init__(self, augment: InstanceAugment, *, antialias: bool = True) -> None:
        super().__init__()
        self.augment = augment
        self.antialias = antialias

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the size of the resized image, then the window."""
        height, width = flat_inputs[0].shape[-2:]
        scale, shortest = self.augment.scale, self.augment.shortest
        if scale is not None:
            factor = math.exp(uniform(math.log(scale[0]), math.log(scale[1])))
        else:
            length = shortest[int(torch.randint(len(shortest), ()))]
            factor = min(length / min(height, width), self.augment.longest / max(height, width))
        scaled = max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))
        return {"scaled": scaled, "window": draw_window(scaled, self.augment.crop or scaled)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Return the window of an image (3, H, W) uint8 or of masks (K, H, W)."""
        return _windowed(inpt, params["scaled"], params["window"], antialias=self.antialias)


class SemanticWindow(v2.Transform):
    """A transform as `InstanceWindow` that avoids windows dominated by one class, and may rotate the window.

    The image's size is multiplied by `base_scale` and by a factor drawn uniformly from `scale`, after its shorter edge
    is resized to `base_short`, if given, or its longer one to `base_long`, if that is less. A window is accepted if it
    shows at least two classes and each covers a ratio under `max_class_share` of the pixels that are not ignored; after
    `tries` further attempts the last one is taken, as in the published training of Cityscapes and ADE20K models.

    Args:
        augment: its settings; the window's size is `crop`.
        fill: RGB in 0..255 of pixels outside of a rotated image; their labels are `IGNORE`.
        antialias: see `InputSpec`.
    """

    _transformed_types = (tv_tensors.Image, tv_tensors.Mask)

    def __init__(
        self, augment: SemanticAugment, *, fill: tuple[float, float, float] = (0, 0, 0), antialias: bool = True
    ) -> None:
        super().__init__()
        self.augment = augment
        self.antialias = antialias
        self.fill = (round(fill[0]), round(fill[1]), round(fill[2]))

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the size of the resized image, then the window, then the angle in degrees."""
        labels = next(inpt for inpt in flat_inputs if isinstance(inpt, tv_tensors.Mask))
        scaled = self.draw_size(labels.shape[-2], labels.shape[-1])
        window, rotate = self._draw_window(labels, scaled), self.augment.rotate
        return {"scaled": scaled, "window": window, "angle": uniform(-rotate, rotate) if rotate else 0.0}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Return the window of an image (3, H, W) uint8 or of labels (H, W) uint8."""
        scaled, window, angle = params["scaled"], params["window"], params["angle"]
        part = partial(_windowed, inpt, scaled, antialias=self.antialias)
        if not angle:
            return part(window)
        fill = IGNORE if isinstance(inpt, tv_tensors.Mask) else self.fill
        rotated = rotated_window(part, scaled, window, angle, fill=fill)
        return tv_tensors.wrap(rotated, like=inpt)

    def draw_size(self, height: int, width: int) -> tuple[int, int]:
        """Draw the size (h, w) of the resized image."""
        factor = uniform(*self.augment.scale) * self.augment.base_scale
        short, long = self.augment.base_short, self.augment.base_long
        if isinstance(short, tuple):
            short = short[int(torch.randint(len(short), ()))]
        if short is not None:
            fitting = short / min(height, width)
            factor *= fitting if long is None else min(fitting, long / max(height, width))
        return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))

    def _draw_window(self, labels: tv_tensors.Mask, scaled: tuple[int, int]) -> Window:
        maximum, tries = self.augment.max_class_share, self.augment.tries
        for attempt in range(tries + 1):
            window = draw_window(scaled, self.augment.crop)
            if maximum >= 1 or attempt == tries or largest_ratio(nearest(labels, scaled, window)) < maximum:
                break
        return window


class RandomTurn(v2.Transform):
    """A transform that applies one of the eight turns and flips of a square."""

    _transformed_types = (tv_tensors.Image, tv_tensors.Mask)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw `which`: `which % 4` quarter turns, after a horizontal flip if it is 4 or more."""
        return {"which": int(torch.randint(8, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Return the turned image or masks (..., H, W)."""
        flipped = inpt.flip(-1) if params["which"] >= 4 else inpt
        return tv_tensors.wrap(torch.rot90(flipped, params["which"] % 4, (-2, -1)).contiguous(), like=inpt)


class PadTo(v2.Transform):
    """A transform that pads at the bottom and the right to a size (h, w): images with 0, labels with `IGNORE`."""

    _transformed_types = (tv_tensors.Image, tv_tensors.Mask)

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Return the padded (..., h, w) of (..., H, W), which must not be larger."""
        padding = [0, 0, self.size[1] - inpt.shape[-1], self.size[0] - inpt.shape[-2]]
        if not any(padding):
            return inpt
        return F.pad(inpt, padding, fill=IGNORE if isinstance(inpt, tv_tensors.Mask) else 0)


class ToTargets(nn.Module):
    """The last step of a transform of instances, which makes the image a plain tensor and the masks targets."""

    def forward(self, image: tv_tensors.Image, masks: InstanceMasks) -> tuple[Tensor, InstanceTargets]:
        return image.as_subclass(Tensor), targets_of(masks)


def _windowed(inpt: Any, scaled: tuple[int, int], window: Window, *, antialias: bool) -> Any:
    if isinstance(inpt, tv_tensors.Mask):
        return tv_tensors.Mask(nearest(inpt, scaled, window))
    return tv_tensors.Image((resample if antialias else interpolate)(inpt, scaled, window))


def _reverse_channels(image: tv_tensors.Image) -> tv_tensors.Image:
    return tv_tensors.Image(image.flip(-3))
