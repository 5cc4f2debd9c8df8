"""Options of a prediction, which replace the model's own test settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from numbers import Integral

from pointrend.core.settings import MAX_POINTS
from pointrend.errors import PointRendError, shown
from pointrend.predict.augmentation import Slide, TestAugmentation
from pointrend.spec import MAX_SHORTEST


@dataclass(frozen=True)
class PredictOptions:
    """Changes to a model's own test settings; None keeps the model's.

    Raises:
        PointRendError: a number is out of range.
    """

    size: int | None = None
    """The shortest edge at which the network sees an image, in pixels; the limit of the longest edge grows with it."""
    points: int | None = None
    """N of a subdivision step."""
    steps: int | None = None
    """Subdivision steps."""
    reference: bool = False
    """Use the reference renderer: the same result but for rounding, more slowly and in more memory."""
    augmentation: TestAugmentation = TestAugmentation()
    """Average over passes at several scales, and of the mirror image."""
    slide: Slide | None = None
    """Semantic models: the network sees the image in windows; None: as a whole."""
    probabilities: bool = False
    """Semantic models: also compute `SemanticResult.probabilities` and `uncertainty`."""
    score_threshold: float | None = None
    """Instance models: objects must have a higher score."""
    max_detections: int | None = None
    """Instance models: the maximum number of objects of an image."""
    adaptive: bool = False
    """Instance models: stop subdividing a box once its grid is finer than the image's pixels. Faster, and masks change
    only below a pixel."""

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("points", self.points), ("steps", self.steps)):
            if isinstance(value, bool) or not isinstance(value, Integral | None):
                raise PointRendError(f"{name} must be an integer, got {shown(value)}")
        if self.size is not None and not 32 <= self.size <= MAX_SHORTEST:
            raise PointRendError(
                f"size must be 32 to {MAX_SHORTEST} (the shortest edge in pixels), got {shown(self.size)}"
            )
        if self.points is not None and not 1 <= self.points <= MAX_POINTS:
            raise PointRendError(f"points must be 1 to {MAX_POINTS}, got {shown(self.points)}")
        if not isinstance(self.slide, Slide | None):
            raise PointRendError(f"slide must be a Slide(crop, stride) or None, got {shown(self.slide)}")
        if self.score_threshold is not None and not 0 <= self.score_threshold < 1:
            raise PointRendError(f"score_threshold must be at least 0 and under 1, got {self.score_threshold}")
        if self.max_detections is not None and not 1 <= self.max_detections <= 65535:
            raise PointRendError(f"max_detections must be 1 to 65535, got {self.max_detections}")
        if self.adaptive and self.reference:
            raise PointRendError("the reference renderer is not adaptive: choose one of adaptive and reference")

    @property
    def single(self) -> bool:
        """Whether the network sees an image once and whole, at the model's own scale."""
        return self.augmentation == TestAugmentation() and self.slide is None

    def passes(self) -> dict[str, object]:
        """Return for JSON how the network sees an image: at which scales, mirrored too or not, whole or in windows."""
        mode = {"mode": "whole"} if self.slide is None else {"mode": "slide", **asdict(self.slide)}
        return {"scales": list(self.augmentation.scales), "flip": self.augmentation.flip, **mode}

    def changed(self) -> list[str]:
        """Return the names of the options that differ from their defaults."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]
