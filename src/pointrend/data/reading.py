"""Settings of how an image file is read."""

from __future__ import annotations

from dataclasses import dataclass

from pointrend.data.intensity import Scaling
from pointrend.errors import PointRendError


@dataclass(frozen=True)
class Reading:
    """What is read of an image file, and how its values are scaled.

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
        if isinstance(self.scaling, tuple) and not self.scaling[0] < self.scaling[1]:
            raise PointRendError(f"the range must go from a smaller to a larger value, got {self.scaling}")
