"""The result of an instance model, and its files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, overload

import numpy as np
from PIL import Image

from pointrend.errors import PointRendError
from pointrend.results.base import Result
from pointrend.results.files import CSV_HEADER, json_bytes, png_bytes
from pointrend.results.masks import LazyMasks
from pointrend.viz import draw_instances

if TYPE_CHECKING:
    from supervision import Detections

MAX_IDS = 65535
"""Largest id in a 16-bit PNG."""


@dataclass(frozen=True, eq=False)
class Instance:
    """One object of an image."""

    label: int
    """Index of `InstanceResult.classes`."""
    class_name: str
    score: float
    box: np.ndarray
    """(4,) float32, xyxy in pixels of the image."""
    mask: np.ndarray
    """(H, W) bool."""


@dataclass(frozen=True)
class InstanceRow:
    """One line of the table, in pixels from the image's upper left corner."""

    id: int
    """The value of its pixels in the id image."""
    class_name: str
    score: float
    area: int
    """Its pixels in the id image; 0 if other objects cover it."""
    box: tuple[float, float, float, float]
    """xyxy, as detected."""
    centroid: tuple[float, float]
    """x, y: the mean of its pixels' centres, or the box's centre if it has no pixels."""


@dataclass(frozen=True, eq=False, kw_only=True)
class InstanceResult(Result):
    """The objects of an image, best first. Fields have the names of torchvision's detection models.

    Shapes: R instances, H W the image's own size.
    """

    suffixes = (".png", "_overlay.png", ".csv", ".json")

    boxes: np.ndarray
    """(R, 4) float32, xyxy in pixels of the image."""
    scores: np.ndarray
    """(R,) float32, descending."""
    labels: np.ndarray
    """(R,) int64, indices of `classes`."""
    masks: LazyMasks
    """R masks (H, W), computed when they are read."""

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Instance]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Instance: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray) -> InstanceResult: ...
    def __getitem__(self, index: int | slice | np.ndarray) -> Instance | InstanceResult:
        """Return one object, or the result with the objects of a slice, of indices or of a boolean array."""
        if isinstance(index, (slice, np.ndarray)):
            return replace(
                self,
                boxes=self.boxes[index],
                scores=self.scores[index],
                labels=self.labels[index],
                masks=self.masks[index],
            )
        label = int(self.labels[index])
        return Instance(
            label, self.classes[label].name, float(self.scores[index]), self.boxes[index], self.masks[index]
        )

    def above(self, score: float) -> InstanceResult:
        """Return only the objects with a higher score."""
        return self[self.scores > score]

    @cached_property
    def ids(self) -> np.ndarray:
        """(H, W) uint16: i + 1 where object i is, 0 elsewhere; where objects overlap, the smallest of them."""
        if len(self) > MAX_IDS:
            raise PointRendError(f"a 16-bit image has {MAX_IDS} ids, there are {len(self)} objects: use `above(score)`")
        ids = np.zeros(self.image.shape[:2], np.uint16)
        crops = [self.masks.crop(index) for index in range(len(self))]
        areas = np.array([inside.sum() for _, inside in crops], np.int64)
        # Large ones first; of equal ones the better last, on top.
        for index in np.lexsort((-np.arange(len(self)), -areas)).tolist():
            (left, top, right, bottom), inside = crops[index]
            ids[top:bottom, left:right][inside] = index + 1
        return ids

    def visible(self) -> InstanceResult:
        """Return the result without objects that have no pixel in `ids`: empty masks, and ones that others hide."""
        seen = np.bincount(self.ids.ravel(), minlength=len(self) + 1)[1:] > 0
        if seen.all():
            return self
        hidden = sum(self.masks.crop(index)[1].any() for index in np.flatnonzero(~seen).tolist())
        notes = (f"{hidden} object{'s are' if hidden > 1 else ' is'} left out, because others cover all of it",)
        result = self[seen].noted(notes if hidden else ())
        number = np.zeros(len(self) + 1, np.uint16)
        number[1:][seen] = np.arange(1, len(result) + 1)
        result.__dict__["ids"] = number[self.ids]  # cached, as computing it again gives the same
        return result

    def label_map(self) -> np.ndarray:
        """Return (H, W) bool: where there is an object."""
        covered: np.ndarray = self.ids > 0
        return covered

    def table(self) -> list[InstanceRow]:
        """Return a row for every object, in the order of the ids."""
        ids = self.ids
        rows, columns = np.nonzero(ids)
        values = ids[rows, columns]
        areas = np.bincount(values, minlength=len(self) + 1)[1:]
        sums = [np.bincount(values, weights=at + 0.5, minlength=len(self) + 1)[1:] for at in (columns, rows)]
        table = []
        for index in range(len(self)):
            left, top, right, bottom = self.boxes[index].tolist()
            centroid = ((left + right) / 2, (top + bottom) / 2)
            if areas[index]:
                centroid = (float(sums[0][index] / areas[index]), float(sums[1][index] / areas[index]))
            table.append(
                InstanceRow(
                    id=index + 1,
                    class_name=self.classes[int(self.labels[index])].name,
                    score=float(self.scores[index]),
                    area=int(areas[index]),
                    box=(left, top, right, bottom),
                    centroid=centroid,
                )
            )
        return table

    def coco(self, image_id: int | str, category_ids: Sequence[int]) -> list[dict[str, object]]:
        """Return the objects in COCO's format for results.

        Args:
            image_id: of the image.
            category_ids: the data set's own number of each class.
        """
        return [
            {
                "image_id": image_id,
                "category_id": category_ids[label],
                "bbox": [left, top, right - left, bottom - top],
                "score": score,
                "segmentation": self.masks.rle(index),
            }
            for index, ((left, top, right, bottom), label, score) in enumerate(
                zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True)
            )
        ]

    def overlay(self) -> Image.Image:
        """Draw the outline of every object on the image; see `viz.draw_instances`."""
        return draw_instances(
            self.image, [self.masks.crop(i) for i in range(len(self))], self.labels.tolist(), self.classes
        )

    def to_supervision(self) -> Detections:
        """Return the objects as `supervision.Detections`, with all masks computed.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise ImportError("to_supervision needs supervision: pip install supervision") from error
        names = np.array([self.classes[int(label)].name for label in self.labels], dtype=str)
        return Detections(
            xyxy=self.boxes.copy(),
            mask=np.stack(list(self.masks)) if len(self) else np.zeros((0, *self.image.shape[:2]), bool),
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            data={"class_name": names},
        )

    def summary(self) -> dict[str, object]:
        """Return for JSON the image's file and size, the number of objects of each class, and all objects."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {
            **self._header(),
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

    def files(self) -> tuple[bytes, ...]:
        """Return the id image (16 bits), the overlay, the table and the summary."""
        summary = json_bytes(self.summary())  # first, because it raises the errors
        text = io.StringIO()
        text.write(CSV_HEADER + "\n")
        writer = csv.writer(text, lineterminator="\n")
        for row in self.table():
            numbers = [f"{value:.2f}" for value in (*row.box, *row.centroid)]
            writer.writerow((row.id, row.class_name, f"{row.score:.4f}", row.area, *numbers))
        csv_bytes = text.getvalue().encode()
        return png_bytes(Image.fromarray(self.ids)), png_bytes(self.overlay()), csv_bytes, summary
