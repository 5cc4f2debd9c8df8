"""The result of a refinement, and its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from pointrend.errors import PointRendError, shown
from pointrend.files import write_atomically
from pointrend.results.base import Result
from pointrend.results.files import json_bytes, output_paths, png_bytes
from pointrend.results.specks import soft_without_specks, without_specks
from pointrend.viz import draw_outline

SAVED = {
    "mask": ".png",
    "soft": "_soft.png",
    "cutout": "_cutout.png",
    "overlay": "_overlay.png",
    "changed": "_changed.png",
}
"""What can be saved, and the ends of the files' names."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RefinedMask(Result):
    """A refined mask, at its photograph's own size H W."""

    suffixes = (".png",)

    labels: np.ndarray
    """(H, W): bool for one object, else the label map or ids as given."""
    given: np.ndarray
    """(H, W): what was given, at the photograph's size, in the same form."""
    soft: np.ndarray | None = None
    """(H, W) float32 in [0, 1], the probability of the object, for one object."""

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool: the object, or all that is not 0."""
        return self.labels if self.labels.dtype == bool else self.labels != 0

    @property
    def changed(self) -> np.ndarray:
        """(H, W) bool: the change map, pixels whose label is not the given one."""
        different: np.ndarray = self.labels != self.given
        return different

    @cached_property
    def cutout(self) -> Image.Image:
        """Return the photograph's object as RGBA, with soft edges and the background's colours removed from them."""
        from pointrend.results.cutouts import cutout

        soft = self.mask.astype(np.float32) if self.soft is None else self.soft
        return Image.fromarray(cutout(self.image, soft), "RGBA")

    def without_specks(self, least: int) -> RefinedMask:
        """Return the mask without parts of fewer than `least` pixels, and with such holes filled.

        Raises:
            PointRendError: the mask is of several objects or classes.
        """
        if self.soft is None:
            raise PointRendError("specks are removed from masks of one object; this one has labels")
        labels, soft = without_specks(self.labels, least), soft_without_specks(self.soft, least)
        return replace(self, labels=labels, soft=soft)

    def mask_image(self) -> Image.Image:
        """Return the mask as an image: 0 and 255 for one object, else the labels in 8 or 16 bits."""
        if self.labels.dtype == bool:
            return Image.fromarray(self.labels.astype(np.uint8) * np.uint8(255))
        wide = int(self.labels.max(initial=0)) > 255
        return Image.fromarray(self.labels.astype(np.uint16 if wide else np.uint8))

    def soft_image(self) -> Image.Image:
        """Return the probability of the object as grey of 0 to 255.

        Raises:
            PointRendError: the mask is of several objects or classes.
        """
        if self.soft is None:
            raise PointRendError("soft is for masks of one object; this one has labels")
        return Image.fromarray((255 * self.soft).round().astype(np.uint8))

    def overlay(self) -> Image.Image:
        """Draw the outlines on the photograph: the given one thin, the refined one over it."""
        return draw_outline(self.image, self.labels, self.given)

    def label_map(self) -> np.ndarray:
        """Return the labels (H, W)."""
        return self.labels

    def summary(self) -> dict[str, object]:
        """Return for JSON the image's file and size, and how many pixels are inside and changed."""
        return {
            **self._header(),
            "pixels": int(np.count_nonzero(self.labels)),
            "changed_pixels": int(np.count_nonzero(self.changed)),
        }

    def files(self) -> tuple[bytes, ...]:
        """Return the mask."""
        return (png_bytes(self.mask_image()),)

    def save_as(self, out_dir: str | Path, what: Sequence[str] = ("mask",), *, stem: str | None = None) -> list[Path]:
        """Write some of `SAVED` atomically into a folder; see `save`.

        Raises:
            PointRendError: as `save`, or there is no such thing to save.
        """
        unknown = [name for name in what if name not in (*SAVED, "json")]
        if unknown or not what:
            raise PointRendError(f"expected some of {', '.join(SAVED)} and json to save, got {shown(list(what))}")
        draw: dict[str, Callable[[], Image.Image]] = {
            "mask": self.mask_image,
            "soft": self.soft_image,
            "cutout": lambda: self.cutout,
            "overlay": self.overlay,
            "changed": lambda: Image.fromarray(self.changed.astype(np.uint8) * np.uint8(255)),
        }
        suffixes = [".json" if name == "json" else SAVED[name] for name in what]
        paths = output_paths(Path(out_dir), stem, suffixes, image=self.path)
        contents = [json_bytes(self.summary()) if name == "json" else png_bytes(draw[name]()) for name in what]
        for path, content in zip(paths, contents, strict=True):
            write_atomically(path, content)
        return paths
