"""Average precision of instances as COCO defines it, of masks, boxes and boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from pointrend.metrics.base import InstanceMetric, MetricSettings, percent
from pointrend.metrics.instances import ImageInstances

Pair = tuple[ImageInstances, ImageInstances]
"""The prediction and the ground truth of an image."""


class CocoMetric(InstanceMetric[Pair]):
    """Average precision and recall by COCO's rules, means over the classes that occur.

    For masks, and the same for boxes and boundaries ("box_ap", "boundary_ap", ...):

    - mask_ap is the mean over IoU 0.5, 0.55, ... 0.95; mask_ap50 and mask_ap75 are at one IoU;
    - mask_ap_small, mask_ap_medium and mask_ap_large are of ground truth under 32², between, and over 96² pixels;
    - mask_ar_100 is the average recall with at most 100 detections of each class in an image;
    - mask_ap/CLASS is the mask_ap of one class.

    Boundaries are matched by the minimum of mask IoU and Boundary IoU (Cheng et al., CVPR 2021). The numbers are those
    of pycocotools, except that every average precision is at the largest detection limit, even if that is not 100, and
    that undefined numbers are nan, not -1.

    Args:
        settings: `max_detections` gives three detection limits, see `limits`.
        detection_limits: rising limits of detections of a class in an image, instead of those.
    """

    name = "coco"
    headline: ClassVar = {
        "mask_ap": "mask AP",
        "mask_ap50": "AP50",
        "boundary_ap": "Boundary AP",
        "mask_ap75": "AP75",
        "mask_ap_small": "AP small",
        "mask_ap_medium": "AP medium",
        "mask_ap_large": "AP large",
        "box_ap": "box AP",
        "box_ap50": "box AP50",
        "box_ap75": "box AP75",
    }
    federated: ClassVar = False
    """Whether `absent` and `incomplete` of the ground truth count."""

    def __init__(self, settings: MetricSettings, detection_limits: Sequence[int] | None = None) -> None:
        super().__init__(settings)
        chosen = limits(settings.max_detections) if detection_limits is None else tuple(detection_limits)
        if not chosen or min(chosen) < 1 or sorted(set(chosen)) != list(chosen):
            raise ValueError(f"detection_limits must be positive and rising, such as (1, 10, 100), got {chosen}")
        self.detection_limits = chosen

    def keep(self, prediction: ImageInstances, truth: ImageInstances) -> Pair:
        # The id images of a whole split would not fit in memory.
        return prediction, replace(truth, instance_ids=None)

    def compute(self) -> dict[str, float]:
        """Compute the numbers of all added images; raise ImportError if faster-coco-eval is not installed."""
        try:
            from pointrend.metrics._faster_coco import precision_recall
        except ImportError as error:
            raise ImportError(
                "evaluation of instances needs faster-coco-eval: pip install 'pointrend[train]'"
            ) from error
        numbers: dict[str, float] = {}
        for kind in ("mask", "box", "boundary"):
            precision, recall = precision_recall(
                self.kept(),
                num_classes=self.num_classes,
                max_detections=self.detection_limits,
                boxes=kind == "box",
                boundary_ratio=self.boundary_ratio if kind == "boundary" else None,
                lvis=self.federated,
            )
            numbers |= {f"{kind}_{name}": value for name, value in self._means(precision[..., -1], recall).items()}
        return numbers

    def _means(self, precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
        """Compute the numbers from precision (T, Q, C, A) at the largest limit and recall (T, C, A, M)."""
        means = {
            "ap": percent(precision[..., 0]),
            "ap50": percent(precision[0, ..., 0]),
            "ap75": percent(precision[5, ..., 0]),
        }
        for index, area in enumerate(("small", "medium", "large"), start=1):
            means[f"ap_{area}"] = percent(precision[..., index])
        for frequency, classes in self.groups().items():
            means[f"ap_{frequency}"] = percent(precision[:, :, classes, 0])
        for index, limit in enumerate(self.detection_limits):
            means[f"ar_{limit}"] = percent(recall[:, :, 0, index])
        for index, name in enumerate(self.class_names):
            means[f"ap/{name}"] = percent(precision[:, :, index, 0])
        return means

    def groups(self) -> dict[str, np.ndarray]:
        """Return named groups of classes, (C,) bool, whose average precision is reported too."""
        return {}


def limits(maximum: int) -> tuple[int, int, int]:
    """Return COCO's three detection limits; the largest includes the `maximum` detections of a model."""
    return (1, 10, max(maximum, 11)) if maximum <= 100 else (1, 100, maximum)
