"""Settings of how an image file is read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pointrend.data.intensity import Scaling
from pointrend.errors import PointRendError, shown


@dataclass(frozen=True)
class Reading:
    """The page and channel that are read of an image file, and how its values become 0 to 255.

    Raises:
        PointRendError: a number is out of range.
    """

    page: int | None = None
    """Page of a TIFF, or frame of an animation, counted from 1; None: the first, with a note if there are more."""
    channel: int | None = None
    """One channel of a colour image as grey, counted from 1; None: all."""
    scaling: Scaling = "full"

    def __post_init__(self) -> None:
        for name in ("page", "channel"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise PointRendError(f"{name} is counted from 1, got {number}")
        if isinstance(self.scaling, tuple):
            if not -math.inf < self.scaling[0] < self.scaling[1] < math.inf:
                raise PointRendError(f"the range must go from a smaller to a larger value, got {shown(self.scaling)}")
        elif self.scaling not in ("full", "deep", "auto"):
            raise PointRendError(f"intensity must be 'full', 'auto' or (low, high), got {shown(self.scaling)}")
