"""What a semantic prediction is, and how it is written down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pointrend.data.classes import ClassInfo
from pointrend.files import write_atomically
from pointrend.results.files import json_bytes, output_paths, save_png
from pointrend.viz import draw_overlay

OUTPUT_SUFFIXES = (".png", "_overlay.png", ".json")
"""What `SemanticResult.save` appends to the stem."""


@dataclass(frozen=True, eq=False)
class SemanticResult:
    """The label of every pixel of an image.

    Shapes: H W, the image's own size.
    """

    labels: np.ndarray
    """(H, W), uint8 (uint16 for more than 256 classes): indices of `classes`."""
    classes: tuple[ClassInfo, ...]
    image: np.ndarray
    """(H, W, 3) uint8 RGB, upright."""
    path: Path | None = None
    """The file the image was read from."""

    def overlay(self, *, alpha: float = 0.5) -> Image.Image:
        """The photograph with classes in colour, outlines and a legend; see `viz.draw_overlay`."""
        return draw_overlay(self.image, self.labels, self.classes, alpha=alpha)

    def label_image(self) -> Image.Image:
        """Labels as a picture whose values are the class indices.

        A palette image in the classes' colours; 16-bit grey for more than 256 classes.
        """
        if len(self.classes) > 256:
            return Image.fromarray(self.labels.astype(np.uint16))
        picture = Image.fromarray(self.labels.astype(np.uint8))
        picture.putpalette([value for c in self.classes for value in c.color])
        return picture

    def summary(self) -> dict[str, object]:
        """For JSON: the image's file and size, and pixels and share of each class that occurs, largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        occurring = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
        height, width = self.labels.shape
        return {
            "image": None if self.path is None else str(self.path),
            "height": height,
            "width": width,
            "classes": [
                {
                    "index": index,
                    "name": self.classes[index].name,
                    "color": list(self.classes[index].color),
                    "pixels": int(counts[index]),
                    "share": float(counts[index] / self.labels.size),
                }
                for index in occurring
            ],
        }

    def save(self, out_dir: str | Path, *, stem: str | None = None) -> list[Path]:
        """Write labels, overlay and summary into a folder, which is made if it is missing.

        Each file is either whole or not there. Files of these names are replaced.

        Args:
            out_dir: the folder.
            stem: how the names begin; None takes the image's file, or "image" for an image without one.

        Returns:
            The paths of `<stem>.png`, `<stem>_overlay.png`, `<stem>.json`.

        Raises:
            ValueError: the photograph itself would be replaced, or `stem` is no plain name.
        """
        labels, overlay, summary = paths = output_paths(Path(out_dir), stem, OUTPUT_SUFFIXES, photo=self.path)
        content = json_bytes(self.summary())
        save_png(self.label_image(), labels)
        save_png(self.overlay(), overlay)
        write_atomically(summary, content)
        return paths
