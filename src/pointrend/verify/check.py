"""What references have in common: the image they are of, and how a tensor compares to theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor


class ReferenceFileError(ValueError):
    """A reference that cannot be used; the message is one line."""


@dataclass(frozen=True)
class Check:
    """How a tensor compares to the reference's."""

    name: str
    difference: float
    """The largest, relative to the reference's standard deviation."""
    tolerance: float
    share: float
    """Of the pixels, those where a channel differs by more than the tolerance."""
    allowed_share: float
    counted: str = "of pixels above"
    """What `share` is a share of."""

    @property
    def ok(self) -> bool:
        """Whether no more pixels differ than may."""
        return self.share <= self.allowed_share


def compare(name: str, found: Tensor, expected: Tensor, *, tolerance: float, allowed_share: float = 0.0) -> Check:
    """Compare tensors of one shape, relative to the reference's standard deviation.

    Maps (C, H, W) are above the tolerance where any channel is; other shapes number by number.
    """
    # Doubles, so that what is compared adds no error of its own.
    expected = expected.double()
    difference = (found.double() - expected).abs() / expected.std(correction=0)
    within = difference <= tolerance  # NaN is above
    above = ~(within.all(dim=0) if within.ndim == 3 else within)
    return Check(name, float(difference.max()), tolerance, float(above.double().mean()), allowed_share)


def reference_image(height: int, width: int, seed: int) -> np.ndarray:
    """The image (H, W, 3), uint8 RGB, of a reference: waves and noise.

    numpy's legacy generator is meant: its numbers do not change between versions.
    """
    random = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width]
    image = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(6):
            vertical, horizontal, phase = random.uniform(-4, 4), random.uniform(-4, 4), random.uniform(0, 6.28)
            image[..., channel] += np.sin(6.28 * (vertical * y / height + horizontal * x / width) + phase)
    image += 0.5 * random.standard_normal(image.shape)
    image = (image - image.min()) / (image.max() - image.min())
    rounded: np.ndarray = (image * 255).round().astype(np.uint8)
    return rounded
