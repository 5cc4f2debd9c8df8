"""Settings of predictions in several passes: test-time augmentation and sliding windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral, Real

from pointrend.core import Window
from pointrend.errors import PointRendError, shown
from pointrend.spec import MAX_SHORTEST

MAX_SCALES = 16
MIN_SCALE, MAX_SCALE = 0.1, 8.0
MIN_CROP = 16
MAX_WINDOWS_PER_EDGE = 16
"""A pixel lies in at most about this many windows along an edge: the stride's limit."""


@dataclass(frozen=True)
class Pass:
    """One of the predictions that are averaged."""

    scale: float
    """What the size at which the network sees the image is multiplied by."""
    mirrored: bool


@dataclass(frozen=True)
class TestAugmentation:
    """Test-time augmentation: an image is predicted at several scales, and mirrored, and probabilities are averaged.

    Raises:
        PointRendError: a number is out of range.
    """

    __test__ = False  # pytest: not a test

    scales: Sequence[float] = (1.0,)
    """Multiples of the size at which the model sees an image."""
    flip: bool = False
    """Also predict the mirror image at each scale."""

    def __post_init__(self) -> None:
        scales = self.scales
        if not isinstance(scales, (tuple, list)) or any(isinstance(s, bool) or not isinstance(s, Real) for s in scales):
            raise PointRendError(f"scales must be several numbers, such as (0.5, 1, 1.5), got {shown(scales)}")
        if not 1 <= len(scales) <= MAX_SCALES:
            raise PointRendError(f"scales must be 1 to {MAX_SCALES} numbers, got {len(scales)}")
        for scale in scales:
            if not (math.isfinite(scale) and MIN_SCALE <= scale <= MAX_SCALE):
                raise PointRendError(f"scales must be {MIN_SCALE:g} to {MAX_SCALE:g}, got {shown(scale)}")
        if len(set(scales)) < len(scales):
            raise PointRendError(f"scales must differ from each other, got {shown(list(scales))}")
        if not isinstance(self.flip, bool):
            raise PointRendError(f"flip must be True or False, got {shown(self.flip)}")
        object.__setattr__(self, "scales", tuple(float(scale) for scale in scales))

    @property
    def passes(self) -> tuple[Pass, ...]:
        """All passes, the largest first: it needs the most memory, and what others leave is not there yet."""
        ordered = sorted(self.scales, reverse=True)
        return tuple(Pass(scale, mirrored) for scale in ordered for mirrored in (False, True)[: 1 + self.flip])

    @property
    def plain(self) -> Pass:
        """The pass that is most like a prediction without augmentation."""
        return Pass(min(self.scales, key=lambda scale: abs(math.log(scale))), mirrored=False)


@dataclass(frozen=True)
class Slide:
    """Sliding windows: the network sees windows of the resized image, and logits are averaged where they overlap.

    Raises:
        PointRendError: a number is out of range.
    """

    crop: tuple[int, int]
    """(H, W) of a window, in pixels of the resized image."""
    stride: tuple[int, int]
    """(H, W) from a window to the next; the last ones are moved so that they end at the image's edge."""

    def __post_init__(self) -> None:
        for name, pair in (("crop", self.crop), ("stride", self.stride)):
            whole = isinstance(pair, (tuple, list)) and len(pair) == 2
            if not whole or any(isinstance(n, bool) or not isinstance(n, Integral) for n in pair):
                raise PointRendError(f"{name} must be two integers (H, W), got {shown(pair)}")
            object.__setattr__(self, name, (int(pair[0]), int(pair[1])))
        for crop, stride in zip(self.crop, self.stride, strict=True):
            if not MIN_CROP <= crop <= MAX_SHORTEST:
                raise PointRendError(f"crop must be {MIN_CROP} to {MAX_SHORTEST} pixels, got {shown(crop)}")
            least = -(-crop // MAX_WINDOWS_PER_EDGE)
            if not least <= stride <= crop:
                raise PointRendError(
                    f"stride must be {least} to {crop} pixels for a crop of {crop}, got {shown(stride)}"
                )

    def windows(self, size: tuple[int, int]) -> list[Window]:
        """Return the windows of an image of `size` (H, W), as mmsegmentation's `slide_inference` has them.

        An image smaller than the crop has one window of its own size.
        """
        tops, lefts = (_starts(*numbers) for numbers in zip(size, self.crop, self.stride, strict=True))
        return [
            (left, top, min(size[1], left + self.crop[1]), min(size[0], top + self.crop[0]))
            for top, left in product(tops, lefts)
        ]


def _starts(edge: int, crop: int, stride: int) -> list[int]:
    count = max(edge - crop + stride - 1, 0) // stride + 1
    return [max(0, min(index * stride, edge - crop)) for index in range(count)]
