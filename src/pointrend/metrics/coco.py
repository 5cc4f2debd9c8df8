"""Average precision of instances as COCO defines it: of boxes, of masks, and of boundaries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pointrend.metrics.coco_evaluation import AREAS, Curves, precision_recall
from pointrend.metrics.instances import ImageInstances, check_pair
from pointrend.rle import Rle

__all__ = ["ApScores", "ImageInstances", "InstanceMetrics", "InstanceScores", "Rle"]


@dataclass(frozen=True)
class ApScores:
    """Average precision and recall in percent, means over the classes that occur; nan where nothing counts."""

    ap: float
    """Mean over IoU 0.5, 0.55, ... 0.95."""
    ap50: float
    ap75: float
    ap_small: float
    """Of ground truth under 32² pixels."""
    ap_medium: float
    ap_large: float
    """Of ground truth over 96² pixels."""
    ar: dict[int, float]
    """Average recall by the number of detections that count, of one class in an image."""
    per_class: tuple[float, ...]
    """`ap` of each class."""

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Scores for JSON, nan as None, `per_class` by name.

        Raises:
            ValueError: `class_names` are not one distinct name a class.
        """
        names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
        return {
            **{name: json_number(getattr(self, name)) for name in names},
            "ar": {str(limit): json_number(value) for limit, value in self.ar.items()},
            "per_class": by_name(class_names, self.per_class),
        }


@dataclass(frozen=True)
class InstanceScores:
    """Scores of everything that was found in a data set."""

    box: ApScores
    mask: ApScores
    boundary: ApScores
    """By the smaller one of mask IoU and Boundary IoU (Cheng et al., CVPR 2021)."""

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Scores for JSON. Raises as `ApScores.to_dict` does."""
        kinds = {"box": self.box, "mask": self.mask, "boundary": self.boundary}
        return {kind: scores.to_dict(class_names) for kind, scores in kinds.items()}


class InstanceMetrics:
    """Collects the instances of images, and computes COCO's scores of all of them.

    The scores are those of pycocotools. Two things are ours: every average precision counts the largest of
    `max_detections`, also where that is not 100, and what cannot be scored is nan, not -1. The result does not
    depend on the order in which images come.

    Args:
        num_classes: C, without background.
        max_detections: rising; how many detections of a class count in an image. (1, 100, 400) for nuclei.
        boundary_share: width of the boundary band as a share of each image's diagonal.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        max_detections: tuple[int, int, int] = (1, 10, 100),
        boundary_share: float = 0.02,
    ) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        if not 0 < boundary_share < 1:
            raise ValueError(f"boundary_share must be between 0 and 1, got {boundary_share}")
        if len(max_detections) == 0 or min(max_detections) < 1 or sorted(set(max_detections)) != list(max_detections):
            raise ValueError(f"max_detections must be positive and rising, such as (1, 10, 100), got {max_detections}")
        self.num_classes = num_classes
        self.max_detections = max_detections
        self.boundary_share = boundary_share
        self._images: dict[int, tuple[ImageInstances, ImageInstances]] = {}

    def __len__(self) -> int:
        """How many images were added."""
        return len(self._images)

    def update(self, predictions: ImageInstances, truth: ImageInstances) -> None:
        """Adds one image. Both are kept, with masks as RLE.

        Raises:
            ValueError: they do not belong together, have a class that is none, or the image was added before.
                Nothing is added then.
        """
        check_pair(predictions, truth, self.num_classes)
        if truth.image_id in self._images:
            raise ValueError(f"image {truth.image_id} was added before: every image counts once")
        self._images[truth.image_id] = (predictions, truth)

    def compute(self) -> InstanceScores:
        """Scores of everything that was added so far.

        Raises:
            ImportError: faster-coco-eval is not installed; says how to install it.
        """
        return InstanceScores(
            box=self._scores(boxes=True),
            mask=self._scores(),
            boundary=self._scores(boundary_share=self.boundary_share),
        )

    def _scores(self, *, boxes: bool = False, boundary_share: float | None = None) -> ApScores:
        pairs = [self._images[image_id] for image_id in sorted(self._images)]
        curves = precision_recall(
            [predictions for predictions, _ in pairs],
            [truth for _, truth in pairs],
            num_classes=self.num_classes,
            max_detections=self.max_detections,
            boxes=boxes,
            boundary_share=boundary_share,
        )
        return ap_scores(curves, self.max_detections)


def ap_scores(curves: Curves, max_detections: Sequence[int]) -> ApScores:
    """The means of precision and recall curves that COCO reports."""
    precision = curves.precision[..., -1]
    at = {iou: np.isclose(curves.thresholds, iou) for iou in (0.5, 0.75)}
    by_area = {name: percent(precision[..., index]) for index, name in enumerate(AREAS)}
    return ApScores(
        ap=by_area["all"],
        ap50=percent(precision[at[0.5], ..., 0]),
        ap75=percent(precision[at[0.75], ..., 0]),
        ap_small=by_area["small"],
        ap_medium=by_area["medium"],
        ap_large=by_area["large"],
        ar={limit: percent(curves.recall[:, :, 0, index]) for index, limit in enumerate(max_detections)},
        per_class=tuple(percent(precision[:, :, index, 0]) for index in range(precision.shape[2])),
    )


def percent(values: np.ndarray) -> float:
    """Mean in percent of the values that are not nan; nan if there are none."""
    known = values[~np.isnan(values)]
    return 100 * float(known.mean()) if known.size else math.nan


def json_number(value: float) -> float | None:
    """The number for JSON, which has no nan."""
    return None if math.isnan(value) else value


def by_name(class_names: Sequence[str], values: Sequence[float]) -> dict[str, float | None]:
    """The numbers of classes for JSON.

    Raises:
        ValueError: `class_names` are not one distinct name a class.
    """
    if len(class_names) != len(values) or len(set(class_names)) != len(class_names):
        raise ValueError(f"expected {len(values)} distinct class names, got {list(class_names)}")
    return {name: json_number(value) for name, value in zip(class_names, values, strict=True)}
