"""The result of a semantic model, and its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from pointrend.errors import PointRendError
from pointrend.results.base import Result
from pointrend.results.files import json_bytes, png_bytes
from pointrend.viz import draw_overlay


@dataclass(frozen=True, eq=False)
class Segment:
    """All pixels of one class in an image."""

    index: int
    """Of `SemanticResult.classes`."""
    name: str
    pixels: int
    ratio: float
    """Of the image's pixels, in [0, 1]."""
    mask: np.ndarray
    """(H, W) bool."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SemanticResult(Result):
    """The label of every pixel of an image. Items are the classes that occur, largest first."""

    suffixes = (".png", "_overlay.png", ".json")

    labels: np.ndarray
    """(H, W), uint8 (uint16 for more than 256 classes): indices of `classes`."""
    certainty: float | None = None
    """The mean probability of the best class in the coarse prediction, background left out; None where all is
    background. Low for images unlike those that the model was trained with."""
    best_two: np.ndarray | None = None
    """(2, H, W) float32, the probabilities of the best and the second best class, with `probabilities=True`."""

    def __len__(self) -> int:
        return len(self._counts)

    def __iter__(self) -> Iterator[Segment]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> Segment:
        """Return the class at a position, largest first."""
        index, pixels = self._counts[position]
        return Segment(index, self.classes[index].name, pixels, pixels / self.labels.size, self.labels == index)

    @property
    def probabilities(self) -> np.ndarray:
        """(H, W) float32: the probability of each pixel's label.

        Raises:
            PointRendError: the prediction was computed without them.
        """
        best, _ = self._best_two()
        return best

    @property
    def uncertainty(self) -> np.ndarray:
        """(H, W) float32 in [0, 1]: the second best class's probability divided by the best one's.

        Raises:
            PointRendError: the prediction was computed without probabilities.
        """
        best, second = self._best_two()
        ratio: np.ndarray = second / best
        return ratio

    def _best_two(self) -> tuple[np.ndarray, np.ndarray]:
        if self.best_two is None:
            raise PointRendError("the result has no probabilities; use predict(..., probabilities=True)")
        return self.best_two[0], self.best_two[1]

    @cached_property
    def _counts(self) -> list[tuple[int, int]]:
        """The index and the number of pixels of each class that occurs, largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        return [(int(i), int(counts[i])) for i in np.argsort(-counts, kind="stable") if counts[i]]

    def overlay(self, *, alpha: float = 0.5) -> Image.Image:
        """Draw classes in colour, outlines and a legend on the image; see `viz.draw_overlay`."""
        return draw_overlay(self.image, self.labels, self.classes, alpha=alpha)

    def label_map(self) -> np.ndarray:
        """Return the labels (H, W)."""
        return self.labels

    def label_image(self) -> Image.Image:
        """Return a palette image of class indices in their colours; 16-bit grey for more than 256 classes."""
        if len(self.classes) > 256:
            return Image.fromarray(self.labels.astype(np.uint16))
        image = Image.fromarray(self.labels.astype(np.uint8))
        image.putpalette([value for c in self.classes for value in c.color])
        return image

    def summary(self) -> dict[str, object]:
        """Return for JSON the image's file and size, and the pixels of each class that occurs, largest first."""
        return {
            **self._header(),
            "certainty": None if self.certainty is None else round(self.certainty, 4),
            "classes": [
                {
                    "index": index,
                    "name": self.classes[index].name,
                    "color": list(self.classes[index].color),
                    "pixels": pixels,
                    "ratio": pixels / self.labels.size,
                }
                for index, pixels in self._counts
            ],
        }

    def files(self) -> tuple[bytes, ...]:
        """Return the label image, the overlay and the summary."""
        return png_bytes(self.label_image()), png_bytes(self.overlay()), json_bytes(self.summary())
