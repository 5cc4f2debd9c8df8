"""Instances of one image as the input of metrics.

Shapes: R regions, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pointrend.errors import PointRendError
from pointrend.rle import Rle


@dataclass(frozen=True, eq=False)
class ImageInstances:
    """The true or predicted instances of one image; ValueError if the fields are invalid or do not fit together."""

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
    """(R,) float; predictions only."""
    crowd: np.ndarray | None = None
    """(R,) bool; ground truth only."""
    areas: np.ndarray | None = None
    """(R,) float; ground truth only: areas in pixels that decide what is small; None: those of the masks."""
    absent: tuple[int, ...] = ()
    """LVIS's ground truth only: classes looked for in the image and not found (`neg_category_ids`)."""
    incomplete: tuple[int, ...] = ()
    """LVIS's ground truth only: classes of which not all instances are annotated (`not_exhaustive_category_ids`)."""
    instance_ids: np.ndarray | None = None
    """(H, W) int; Cityscapes' ground truth only: the pixels of `*_gtFine_instanceIds.png`."""

    def __post_init__(self) -> None:
        regions = len(self.masks)
        for name in ("boxes", "classes", "scores", "crowd", "areas"):
            values, shape = getattr(self, name), (regions, 4) if name == "boxes" else (regions,)
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
    """Raise ValueError if predictions lack scores, are of another image or size, or a class is not in 0 to C - 1."""
    if predictions.image_id != truth.image_id:
        raise ValueError(f"predictions are of image {predictions.image_id}, ground truth of {truth.image_id}")
    if tuple(predictions.size) != tuple(truth.size):
        raise ValueError(
            f"image {truth.image_id}: predictions are for size {tuple(predictions.size)}, ground truth for "
            f"{tuple(truth.size)}: resize masks and boxes to the image's size"
        )
    if predictions.scores is None:
        raise ValueError(f"image {truth.image_id}: predictions need scores, got None")
    for name, instances in (("predicted", predictions), ("true", truth)):
        wrong = instances.classes[(instances.classes < 0) | (instances.classes >= num_classes)]
        if len(wrong):
            raise PointRendError(
                f"image {truth.image_id}: {name} classes must be 0 to {num_classes - 1}, got {wrong[0]}: "
                "do the model and the data have the same classes?"
            )
