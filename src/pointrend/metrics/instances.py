"""Instances of one image as the metrics take them: boxes, classes, masks as RLE, and what belongs to them.

Shapes: R regions, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pointrend.rle import Rle


@dataclass(frozen=True, eq=False)
class ImageInstances:
    """The instances of one image: its ground truth, or what was predicted for it.

    Raises:
        ValueError: the fields do not fit together, or hold values that no image has.
    """

    image_id: int
    """The same for the ground truth and the predictions of an image."""
    size: tuple[int, int]
    """(H, W)."""
    boxes: np.ndarray
    """(R, 4) float, xyxy in pixels."""
    classes: np.ndarray
    """(R,) int, class indices from 0."""
    masks: Sequence[Rle]
    """R masks of the image's size."""
    scores: np.ndarray | None = None
    """(R,) float, of predictions only."""
    crowd: np.ndarray | None = None
    """(R,) bool, of ground truth only: a region of many objects, neither to be found nor counted as wrong."""
    areas: np.ndarray | None = None
    """(R,) float, of ground truth only: areas in pixels that decide what is small; None: those of the masks."""

    def __post_init__(self) -> None:
        regions = len(self.masks)
        expected = {"boxes": (regions, 4), "classes": (regions,), "scores": (regions,)}
        expected |= {"crowd": (regions,), "areas": (regions,)}
        for name, shape in expected.items():
            values = getattr(self, name)
            if values is None:
                continue
            if values.shape != shape:
                raise ValueError(f"{self}: {name} must be {shape} as there are {regions} masks, got {values.shape}")
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ValueError(f"{self}: {name} must be finite, got {values[~np.isfinite(values)][0]}")
        if regions and self.classes.dtype.kind not in "iu":
            raise ValueError(f"{self}: classes must be integers, got {self.classes.dtype}")
        for mask in self.masks:
            if tuple(mask["size"]) != tuple(self.size):
                raise ValueError(f"{self}: masks must have the image's size {self.size}, got {tuple(mask['size'])}")

    def __len__(self) -> int:
        return len(self.masks)

    def __str__(self) -> str:
        return f"instances of image {self.image_id}"


def check_pair(predictions: ImageInstances, truth: ImageInstances, num_classes: int) -> None:
    """Refuse predictions and ground truth that do not belong together.

    Raises:
        ValueError: two images, another size, predictions without scores, or a class outside of 0 to C - 1.
    """
    if predictions.image_id != truth.image_id:
        raise ValueError(f"predictions are of image {predictions.image_id}, ground truth of {truth.image_id}")
    if tuple(predictions.size) != tuple(truth.size):
        raise ValueError(
            f"image {truth.image_id}: predictions are for size {tuple(predictions.size)}, ground truth for "
            f"{tuple(truth.size)}: bring masks and boxes to the image's own size"
        )
    if predictions.scores is None:
        raise ValueError(f"image {truth.image_id}: predictions need scores, got None")
    check_classes("predicted", predictions, num_classes)
    check_classes("true", truth, num_classes)


def check_classes(name: str, instances: ImageInstances, num_classes: int) -> None:
    """Refuse classes outside of 0 to C - 1 with a ValueError."""
    wrong = instances.classes[(instances.classes < 0) | (instances.classes >= num_classes)]
    if len(wrong):
        raise ValueError(
            f"image {instances.image_id}: {name} classes must be 0 to {num_classes - 1}, got {wrong[0]}: "
            "do the model and the data have the same classes?"
        )
