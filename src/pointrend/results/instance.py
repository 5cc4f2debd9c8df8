"""What an instance prediction is, and how it is written down."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from pointrend.data.classes import ClassInfo
from pointrend.files import write_atomically
from pointrend.results.files import CSV_HEADER, json_bytes, output_paths, save_png
from pointrend.results.masks import LazyMasks
from pointrend.viz import draw_instances

INSTANCE_SUFFIXES = (".png", "_overlay.png", ".csv", ".json")
"""What `InstanceResult.save` appends to the stem."""

MAX_IDS = 65535
"""That an image of 16 bits holds."""


@dataclass(frozen=True)
class InstanceRow:
    """One line of the table. Positions are in pixels, from the image's upper left corner."""

    id: int
    """The value of its pixels in the id image."""
    class_name: str
    score: float
    area: int
    """Its pixels in the id image; 0 where objects of a better score hide it."""
    box: tuple[float, float, float, float]
    """xyxy, as detected."""
    centroid: tuple[float, float]
    """x, y: the mean of its pixels' centres; the box's centre without any."""


@dataclass(frozen=True, eq=False)
class InstanceResult:
    """The objects of an image, best first.

    Shapes: R instances, H W the image's own size.
    """

    boxes: np.ndarray
    """(R, 4) float32, xyxy in pixels of the image."""
    scores: np.ndarray
    """(R,) float32, falling."""
    class_ids: np.ndarray
    """(R,) int64, indices of `classes`."""
    masks: LazyMasks
    """R masks (H, W), made when they are asked for."""
    classes: tuple[ClassInfo, ...]
    image: np.ndarray
    """(H, W, 3) uint8 RGB, upright."""
    path: Path | None = None
    """The file the image was read from."""

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> InstanceResult:
        """Only the objects with a higher score."""
        kept = self.scores > score
        return replace(
            self,
            boxes=self.boxes[kept],
            scores=self.scores[kept],
            class_ids=self.class_ids[kept],
            masks=self.masks.chosen(kept),
        )

    @cached_property
    def ids(self) -> np.ndarray:
        """(H, W) uint16: 0 where there is nothing, i + 1 where object i is; of several the one of the best score."""
        if len(self) > MAX_IDS:
            raise ValueError(
                f"an image of 16 bits holds {MAX_IDS} ids, there are {len(self)}: keep those `above` a score"
            )
        ids = np.zeros(self.image.shape[:2], np.uint16)
        for index in reversed(range(len(self))):
            (left, top, right, bottom), inside = self.masks.crop(index)
            ids[top:bottom, left:right][inside] = index + 1
        return ids

    def table(self) -> list[InstanceRow]:
        """A row for every object, in the order of the ids."""
        ids = self.ids
        rows, columns = np.nonzero(ids)
        values = ids[rows, columns]
        areas = np.bincount(values, minlength=len(self) + 1)[1:]
        sums = [np.bincount(values, weights=at + 0.5, minlength=len(self) + 1)[1:] for at in (columns, rows)]
        made = []
        for index in range(len(self)):
            left, top, right, bottom = (float(value) for value in self.boxes[index])
            centroid = ((left + right) / 2, (top + bottom) / 2)
            if areas[index]:
                centroid = (float(sums[0][index] / areas[index]), float(sums[1][index] / areas[index]))
            made.append(
                InstanceRow(
                    id=index + 1,
                    class_name=self.classes[int(self.class_ids[index])].name,
                    score=float(self.scores[index]),
                    area=int(areas[index]),
                    box=(left, top, right, bottom),
                    centroid=centroid,
                )
            )
        return made

    def coco(self, image_id: int, category_ids: Sequence[int]) -> list[dict[str, object]]:
        """In COCO's format for results.

        Args:
            image_id: of the image.
            category_ids: the data set's own number of each class.
        """
        found: list[dict[str, object]] = []
        for index in range(len(self)):
            left, top, right, bottom = (float(value) for value in self.boxes[index])
            found.append(
                {
                    "image_id": image_id,
                    "category_id": category_ids[int(self.class_ids[index])],
                    "bbox": [left, top, right - left, bottom - top],
                    "score": float(self.scores[index]),
                    "segmentation": self.masks.rle(index),
                }
            )
        return found

    def overlay(self) -> Image.Image:
        """The photograph with every object outlined; see `viz.draw_instances`."""
        return draw_instances(
            self.image, [self.masks.crop(i) for i in range(len(self))], self.class_ids.tolist(), self.classes
        )

    def summary(self) -> dict[str, object]:
        """For JSON: the image's file and size, how many objects of each class there are, and each with its mask."""
        height, width = self.image.shape[:2]
        counts = np.bincount(self.class_ids, minlength=len(self.classes))
        return {
            "image": None if self.path is None else str(self.path),
            "height": height,
            "width": width,
            "classes": [
                {"index": index, "name": info.name, "color": list(info.color), "count": int(counts[index])}
                for index, info in enumerate(self.classes)
                if counts[index]
            ],
            "instances": [
                {
                    "id": row.id,
                    "class": row.class_name,
                    "score": round(row.score, 4),
                    "area": row.area,
                    "box": [round(value, 2) for value in row.box],
                    "mask": self.masks.rle(row.id - 1),
                }
                for row in self.table()
            ],
        }

    def save(self, out_dir: str | Path, *, stem: str | None = None) -> list[Path]:
        """Write the id image, overlay, table and summary into a folder, which is made if it is missing.

        Each file is either whole or not there. Files of these names are replaced.

        Args:
            out_dir: the folder.
            stem: how the names begin; None takes the image's file, or "image" for an image without one.

        Returns:
            The paths of `<stem>.png` (16-bit ids), `<stem>_overlay.png`, `<stem>.csv`, `<stem>.json`.

        Raises:
            ValueError: the photograph itself would be replaced, or `stem` is no plain name.
        """
        ids, overlay, table, summary = paths = output_paths(Path(out_dir), stem, INSTANCE_SUFFIXES, photo=self.path)
        content = json_bytes(self.summary())
        save_png(Image.fromarray(self.ids), ids)
        save_png(self.overlay(), overlay)
        write_atomically(table, self._csv().encode())
        write_atomically(summary, content)
        return paths

    def _csv(self) -> str:
        text = io.StringIO()
        text.write(CSV_HEADER + "\n")
        writer = csv.writer(text, lineterminator="\n")
        for row in self.table():
            numbers = [f"{value:.2f}" for value in (*row.box, *row.centroid)]
            writer.writerow((row.id, row.class_name, f"{row.score:.4f}", row.area, *numbers))
        return text.getvalue()
