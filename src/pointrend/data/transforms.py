"""The augmentations that semantic segmentation is published with, on torchvision.transforms.v2.

Every random choice comes from torch's global generator: seeding it fixes the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from pointrend.data.classes import IGNORE

Pair = tuple[tv_tensors.Image, tv_tensors.Mask]


def train_transform(
    *,
    crop: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    scale: tuple[float, float] = (0.5, 2.0),
    base_scale: float = 1.0,
    base_short: int | None = None,
    max_share: float = 0.75,
    tries: int = 10,
    flip: float = 0.5,
    photometric: bool = True,
    rotate: float = 0.0,
    grayscale: float = 0.0,
) -> Callable[[tv_tensors.Image, tv_tensors.Mask], tuple[Tensor, Tensor]]:
    """Scale, crop, flip, distort, normalise, pad.

    The transform takes an image (3, H, W) uint8 and labels (H, W) uint8 of any size and returns them as
    (3, h, w) float32 and (h, w) int64 of exactly the crop's size.

    Args:
        crop: (h, w) in pixels.
        mean, std: RGB, on the scale of 0 to 255.
        scale, base_scale, base_short, max_share, tries, rotate: see `RandomScaledCrop`.
        flip: probability of a horizontal flip.
        photometric: whether to distort the colours, see `PhotometricDistort`.
        grayscale: probability of taking the colours away.
    """
    steps: list[nn.Module] = [
        RandomScaledCrop(
            crop,
            scale=scale,
            base_scale=base_scale,
            base_short=base_short,
            max_share=max_share,
            tries=tries,
            rotate=rotate,
            fill=mean,
        ),
        v2.RandomHorizontalFlip(flip),
    ]
    if photometric:
        steps.append(PhotometricDistort())
    if grayscale:
        steps.append(v2.RandomGrayscale(grayscale))
    steps += [
        v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=False),
        v2.Normalize(mean=list(mean), std=list(std)),
        PadTo(crop),
        v2.ToPureTensor(),
    ]
    return v2.Compose(steps)


class RandomScaledCrop(nn.Module):
    """A random crop of the image at a random scale, in which no class takes more than a share.

    The image's size is multiplied by `base_scale` (or, if `base_short` is given, its shorter edge is first
    made that long) and by a factor drawn uniformly from `scale`. A crop is accepted if it shows at least
    two classes and none has `max_share` or more of the pixels that are not ignored; after `tries` further
    attempts the last is taken, as in the published training of Cityscapes and ADE20K models.

    The result is as large as `size`, or smaller where the scaled image is. It equals resizing the whole
    image and cropping then; but only the window's own pixels are resampled.

    Args:
        size: (h, w) in pixels.
        scale: smallest and largest factor.
        base_scale: what the factor 1 means, relative to the image's own size.
        base_short: what the factor 1 means, as the length of the shorter edge in pixels; replaces the
            image's own size.
        max_share: 1 accepts every crop.
        tries: further attempts.
        rotate: largest angle in degrees, drawn uniformly in both directions; what comes from outside of the
            image has the colour `fill` and is ignored.
        fill: RGB in 0..255.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        scale: tuple[float, float] = (1.0, 1.0),
        base_scale: float = 1.0,
        base_short: int | None = None,
        max_share: float = 0.75,
        tries: int = 10,
        rotate: float = 0.0,
        fill: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        super().__init__()
        if min(size) < 1:
            raise ValueError(f"crop must be at least 1x1, got {size}")
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be (smallest, largest), both above 0, got {scale}")
        if base_scale <= 0 or (base_short is not None and base_short < 1):
            raise ValueError(f"base_scale and base_short must be above 0, got {base_scale} and {base_short}")
        if not 0 < max_share <= 1:
            raise ValueError(f"max_share must be above 0 and at most 1, got {max_share}")
        if tries < 0:
            raise ValueError(f"tries must be at least 0, got {tries}")
        self.size = size
        self.scale = scale
        self.base_scale = base_scale
        self.base_short = base_short
        self.max_share = max_share
        self.tries = tries
        self.rotate = rotate
        self.fill = tuple(round(value) for value in fill)

    def forward(self, image: tv_tensors.Image, labels: tv_tensors.Mask) -> Pair:
        """image (3, H, W) uint8, labels (H, W) uint8 -> the same of the crop."""
        pixels, values = image.permute(1, 2, 0).numpy(), labels.numpy()
        scaled = self._draw_size(values.shape[0], values.shape[1])
        window = self._draw_window(values, scaled)
        angle = uniform(-self.rotate, self.rotate) if self.rotate else 0.0
        if angle:
            picture, values = self._rotated(pixels, values, scaled, window, angle)
        else:
            picture, values = resample(pixels, scaled, window), nearest(values, scaled, window)
        return tv_tensors.Image(F.pil_to_tensor(picture)), tv_tensors.Mask(torch.from_numpy(values))

    def _draw_size(self, height: int, width: int) -> tuple[int, int]:
        factor = uniform(*self.scale) * self.base_scale
        if self.base_short is not None:
            factor *= self.base_short / min(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _draw_window(self, values: np.ndarray, scaled: tuple[int, int]) -> Window:
        height, width = min(self.size[0], scaled[0]), min(self.size[1], scaled[1])
        for attempt in range(self.tries + 1):
            window = (below(scaled[0] - height + 1), below(scaled[1] - width + 1), height, width)
            # The last one is taken whatever it shows.
            if self.max_share >= 1 or attempt == self.tries:
                break
            if largest_share(nearest(values, scaled, window)) < self.max_share:
                break
        return window

    def _rotated(
        self, pixels: np.ndarray, values: np.ndarray, scaled: tuple[int, int], window: Window, angle: float
    ) -> tuple[Image.Image, np.ndarray]:
        """Cuts a window large enough to hold the rotated crop, rotates about its centre and crops."""
        top, left, height, width = window
        cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
        # The same margin on both sides keeps the centre.
        above = max(0, math.ceil((height * cos + width * sin - height) / 2))
        beside = max(0, math.ceil((height * sin + width * cos - width) / 2))
        large = (top - above, left - beside, height + 2 * above, width + 2 * beside)
        inner = _clip(large, scaled)
        place = (inner[1] - large[1], inner[0] - large[0])
        picture = Image.new("RGB", (large[3], large[2]), self.fill)
        picture.paste(resample(pixels, scaled, inner), place)
        mask = Image.new("L", picture.size, IGNORE)
        mask.paste(Image.fromarray(nearest(values, scaled, inner)), place)
        box = (beside, above, beside + width, above + height)
        picture = picture.rotate(angle, Image.Resampling.BILINEAR, fillcolor=self.fill).crop(box)
        mask = mask.rotate(angle, Image.Resampling.NEAREST, fillcolor=IGNORE).crop(box)
        return picture, np.array(mask)


def largest_share(values: np.ndarray) -> float:
    """The largest class's share of the pixels that are not ignored; 1 if fewer than two classes occur."""
    counts = np.bincount(values.ravel(), minlength=IGNORE + 1)[:IGNORE]
    total = int(counts.sum())
    return int(counts.max()) / total if total else 1.0


class PhotometricDistort(nn.Module):
    """Changes brightness, contrast, saturation and hue, each with probability `p`; contrast first or last.

    Unlike torchvision's transform of that name it never exchanges colour channels, which published training
    of segmentation does not do either.
    """

    def __init__(
        self,
        *,
        brightness: float = 0.125,
        contrast: float = 0.5,
        saturation: float = 0.5,
        hue: float = 0.1,
        p: float = 0.5,
    ) -> None:
        super().__init__()
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.p = p

    def forward(self, image: tv_tensors.Image, labels: tv_tensors.Mask) -> Pair:
        """image (3, H, W) uint8; the labels pass through."""
        contrast_last = uniform(0, 1) < 0.5
        # Pillow's kernels: hue takes half the time of that on tensors.
        picture: Any = Image.fromarray(image.permute(1, 2, 0).numpy())
        if self._chosen():
            picture = F.adjust_brightness(picture, self._factor(self.brightness))
        if not contrast_last and self._chosen():
            picture = F.adjust_contrast(picture, self._factor(self.contrast))
        if self._chosen():
            picture = F.adjust_saturation(picture, self._factor(self.saturation))
        if self._chosen():
            picture = F.adjust_hue(picture, uniform(-self.hue, self.hue))
        if contrast_last and self._chosen():
            picture = F.adjust_contrast(picture, self._factor(self.contrast))
        return tv_tensors.Image(F.pil_to_tensor(picture)), labels

    def _chosen(self) -> bool:
        return uniform(0, 1) < self.p

    @staticmethod
    def _factor(strength: float) -> float:
        return uniform(1 - strength, 1 + strength)


class PadTo(nn.Module):
    """Pads at the bottom and the right to a size: images with 0, labels with `IGNORE`."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: tv_tensors.Image, labels: tv_tensors.Mask) -> Pair:
        """image (3, H, W), labels (H, W), neither larger than the size."""
        height, width = image.shape[-2:]
        padding = [0, 0, self.size[1] - width, self.size[0] - height]
        if not any(padding):
            return image, labels
        return tv_tensors.Image(F.pad(image, padding, fill=0)), tv_tensors.Mask(F.pad(labels, padding, fill=IGNORE))


Window = tuple[int, int, int, int]
"""top, left, height, width in pixels of the scaled image."""


def resample(pixels: np.ndarray, scaled: tuple[int, int], window: Window) -> Image.Image:
    """The window of the image (H, W, 3) resized to `scaled`, bilinear with antialiasing."""
    rows = _source(window[0], window[2], pixels.shape[0], scaled[0])
    columns = _source(window[1], window[3], pixels.shape[1], scaled[1])
    part = Image.fromarray(pixels[rows[0] : rows[1], columns[0] : columns[1]])
    box = (columns[2], rows[2], columns[3], rows[3])
    return part.resize((window[3], window[2]), Image.Resampling.BILINEAR, box=box)


def _source(start: int, length: int, size: int, scaled: int) -> tuple[int, int, float, float]:
    """The source pixels that `length` resized pixels from `start` depend on, and their extent in those."""
    begin, end = start * size / scaled, (start + length) * size / scaled
    # The triangle filter reaches one source pixel, or one resized pixel when shrinking; one more to be safe.
    reach = max(1.0, size / scaled) + 1
    first, last = max(0, math.floor(begin - reach)), min(size, math.ceil(end + reach))
    return first, last, begin - first, end - first


def nearest(values: np.ndarray, scaled: tuple[int, int], window: Window) -> np.ndarray:
    """The window of the labels (H, W) resized to `scaled`, each pixel from the one its centre falls into."""
    rows = _nearest_index(window[0], window[2], values.shape[0], scaled[0])
    columns = _nearest_index(window[1], window[3], values.shape[1], scaled[1])
    window_values: np.ndarray = values[rows].take(columns, axis=1)
    return window_values


def _nearest_index(start: int, length: int, size: int, scaled: int) -> np.ndarray:
    # floor((i + 0.5) * size / scaled), in integers.
    index: np.ndarray = (2 * np.arange(start, start + length) + 1) * size // (2 * scaled)
    return index


def _clip(window: Window, size: tuple[int, int]) -> Window:
    top, left = max(0, window[0]), max(0, window[1])
    bottom, right = min(size[0], window[0] + window[2]), min(size[1], window[1] + window[3])
    return top, left, bottom - top, right - left


def uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def below(count: int) -> int:
    return int(torch.randint(count, ()))
