"""The base of all results: the image, an overlay, a summary, and files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from PIL import Image

from pointrend.data.classes import ClassInfo
from pointrend.files import write_atomically
from pointrend.results.files import output_paths, png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, kw_only=True)
class Result(ABC):
    """The prediction for an image, at the image's own size H W."""

    suffixes: ClassVar[tuple[str, ...]]
    """Appended to the stem by `save`, in the order of `files`."""

    classes: tuple[ClassInfo, ...]
    image: np.ndarray
    """(H, W, 3) uint8 RGB, upright."""
    path: Path | None = None
    """The file the image was read from."""
    notes: tuple[str, ...] = ()
    """What was chosen, scaled, limited or left out."""

    def noted(self, notes: Sequence[str]) -> Self:
        """Return the result with further notes before its own."""
        if not notes:  # what was cached is kept
            return self
        return replace(self, notes=(*notes, *self.notes))

    @abstractmethod
    def overlay(self) -> Image.Image:
        """Draw the result on the image."""

    @abstractmethod
    def label_map(self) -> np.ndarray:
        """Return (H, W), for comparisons: the label of each pixel, or whether it belongs to an object."""

    @abstractmethod
    def summary(self) -> dict[str, object]:
        """Return for JSON the image's file and size, and the numbers of each class."""

    @abstractmethod
    def files(self) -> tuple[bytes, ...]:
        """Return the content of the files that `save` writes, in the order of `suffixes`."""

    def save(self, out_dir: str | Path, *, stem: str | None = None) -> list[Path]:
        """Write the result's files atomically into a folder, which is created if it is missing.

        Args:
            out_dir: the folder.
            stem: the names' beginning; None takes the image's file, or "image" for an image without one.

        Returns:
            The paths, one for each of `suffixes`.

        Raises:
            PointRendError: the image itself would be replaced, or `stem` is not a plain name.
        """
        paths = output_paths(Path(out_dir), stem, self.suffixes, image=self.path)
        for path, content in zip(paths, self.files(), strict=True):
            write_atomically(path, content)
        return paths

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the overlay into matplotlib axes; None takes the current ones."""
        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.gca()
        axes.imshow(np.asarray(self.overlay()))
        axes.set_axis_off()
        return axes

    def show(self) -> None:
        """Open the overlay in the system's image viewer."""
        self.overlay().show()

    def _repr_png_(self) -> bytes:
        """Return the overlay as PNG, for notebooks."""
        return png_bytes(self.overlay())

    def _header(self) -> dict[str, object]:
        """Return the beginning of every summary."""
        height, width = self.image.shape[:2]
        notes = {"notes": list(self.notes)} if self.notes else {}
        return {"image": None if self.path is None else str(self.path), "height": height, "width": width, **notes}
