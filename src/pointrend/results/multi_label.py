"""The result of a model whose classes do not exclude each other, and its files."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from pointrend.data.classes import ClassInfo
from pointrend.errors import PointRendError
from pointrend.results.files import json_bytes, png_bytes
from pointrend.results.semantic import Segment, SemanticResult
from pointrend.viz import draw_overlay, is_background

NONE = ClassInfo("background", (0, 0, 0))
"""What pixels without a class are drawn as."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MultiLabelResult(SemanticResult):
    """The classes of every pixel of an image: several, or none. Items are the classes that occur, largest first."""

    suffixes = (".npz", "_overlay.png", ".json")

    labels: np.ndarray
    """(H, W), int32: bit c is set where the pixel is of class c."""

    def mask(self, index: int) -> np.ndarray:
        """Return the pixels (H, W) bool of a class."""
        mask: np.ndarray = (self.labels >> index) & 1 == 1
        return mask

    def __getitem__(self, position: int) -> Segment:
        """Return the class at a position, largest first; pixels may be of others too."""
        index, pixels = self._counts[position]
        return Segment(index, self.classes[index].name, pixels, pixels / self.labels.size, self.mask(index))

    @cached_property
    def _counts(self) -> list[tuple[int, int]]:
        counts = np.array([np.count_nonzero(self.mask(index)) for index in range(len(self.classes))])
        return [(int(i), int(counts[i])) for i in np.argsort(-counts, kind="stable") if counts[i]]

    def overlay(self, *, alpha: float = 0.5) -> Image.Image:
        """Draw each combination of classes that occurs, named "a + b", in the mean of their colours."""
        patterns, drawn = np.unique(self.labels, return_inverse=True)
        combinations = [self._combined(int(pattern)) for pattern in patterns]
        return draw_overlay(self.image, drawn.reshape(self.labels.shape), combinations, alpha=alpha)

    def _combined(self, pattern: int) -> ClassInfo:
        there = [(index, one) for index, one in enumerate(self.classes) if pattern >> index & 1]
        members = [one for index, one in there if not is_background(index, one)]
        if not members:
            return NONE
        color = np.mean([one.color for one in members], axis=0).round().astype(int).tolist()
        return ClassInfo(" + ".join(one.name for one in members), (color[0], color[1], color[2]))

    def label_image(self) -> Image.Image:
        """Raise: an image has one class a pixel.

        Raises:
            PointRendError: always; `mask` gives the pixels of a class.
        """
        raise PointRendError("pixels have several classes or none, which no label image holds; use mask(index)")

    def files(self) -> tuple[bytes, ...]:
        """Return the masks (H, W) bool of the classes that occur, by name; the overlay; and the summary."""
        return self._masks_file(), png_bytes(self.overlay()), json_bytes(self.summary())

    def _masks_file(self) -> bytes:
        """Return what `np.savez_compressed` would write, which takes no classes named as its own arguments."""
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for one in self:
                array = io.BytesIO()
                np.lib.format.write_array(array, one.mask, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{one.name}.npy"), array.getvalue(), zipfile.ZIP_DEFLATED)
        return file.getvalue()
