"""The numbers of the method, each in a small frozen class that is argument, recipe section and file header alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

FORBID_UNKNOWN = {"extra": "forbid", "allow_inf_nan": False}
"""Read by pydantic where these classes stand in a recipe or a model file: an unknown key is an error."""

MAX_POINTS = 10**8
"""Maximum number of points: more than the finest grid of any image that fits the memory."""
MAX_FACTOR = 1e6


@dataclass(frozen=True)
class Sampling:
    """How the points of training are chosen (paper, section 3.1).

    Raises:
        ValueError: a number is out of range.
    """

    num_points: int
    """P, the points of each image or region."""
    oversample: float = 3.0
    """k: of k * P random points the most uncertain are kept; at least 1."""
    importance: float = 0.75
    """beta, the ratio of points that are chosen by uncertainty, in [0, 1]; the others are random."""
    regular: bool = False
    """Take the P pixels of a square grid over the image instead, for comparison (paper, table 4)."""

    __pydantic_config__: ClassVar = FORBID_UNKNOWN

    def __post_init__(self) -> None:
        inside = 1 <= self.num_points <= MAX_POINTS and 1 <= self.oversample <= 1000
        if not (inside and 0 <= self.importance <= 1):
            raise ValueError(
                f"expected num_points of 1 to {MAX_POINTS}, oversample of 1 to 1000 and importance in [0, 1], "
                f"got {self.num_points}, {self.oversample}, {self.importance}"
            )
        if self.regular and math.isqrt(self.num_points) ** 2 != self.num_points:
            raise ValueError(f"a regular grid needs a square number of points, such as 1024, got {self.num_points}")


@dataclass(frozen=True)
class Subdivision:
    """How a prediction is rendered (paper, section 3.1).

    Raises:
        ValueError: a number is out of range.
    """

    num_points: int
    """N, the new predictions of a step; a grid with fewer pixels is predicted whole."""
    steps: int
    """How often the grid is doubled, 0 to 8."""
    start: int = 0
    """The side of the regular grid that masks start from, on which every pixel is predicted; 0 starts from the coarse
    prediction itself, as label maps do."""

    __pydantic_config__: ClassVar = FORBID_UNKNOWN

    def __post_init__(self) -> None:
        if not 1 <= self.num_points <= MAX_POINTS:
            raise ValueError(f"expected num_points of 1 to {MAX_POINTS}, got {str(self.num_points)[:40]}")
        if not 0 <= self.steps <= 8:
            raise ValueError(f"expected steps of 0 to 8, got {self.steps}")
        if not 0 <= self.start <= 512:
            raise ValueError(f"expected a start grid of 0 to 512 pixels a side, got {self.start}")


@dataclass(frozen=True)
class LossWeights:
    """What the two losses of PointRend are multiplied by.

    Raises:
        ValueError: a weight is negative.
    """

    coarse: float = 1.0
    """Of the coarse prediction."""
    points: float = 1.0
    """Of the prediction at points."""

    __pydantic_config__: ClassVar = FORBID_UNKNOWN

    def __post_init__(self) -> None:
        if not (0 <= self.coarse <= MAX_FACTOR and 0 <= self.points <= MAX_FACTOR):
            raise ValueError(f"expected loss weights of 0 to {MAX_FACTOR:.0f}, got {self.coarse} and {self.points}")


LABEL_SAMPLING = Sampling(num_points=2048)
"""The published numbers for label maps (paper, section 4.2)."""
MASK_SAMPLING = Sampling(num_points=196)
"""The published numbers for masks, 14 * 14 points (paper, section 4.1)."""
QUERY_SAMPLING = Sampling(num_points=12544)
"""The published numbers for masks of queries, 112 * 112 points (Mask2Former, arXiv 2112.01527, section 3.3)."""
LABEL_SUBDIVISION = Subdivision(num_points=8196, steps=2)
"""mmsegmentation's numbers for label maps; the paper has 8096 points, detectron2 8192."""
MASK_SUBDIVISION = Subdivision(num_points=784, steps=3, start=28)
"""The published numbers for masks: 28 * 28 points, from 28x28 to 224x224."""
