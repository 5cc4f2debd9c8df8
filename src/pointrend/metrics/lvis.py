"""Average precision on LVIS, whose annotations are federated: an image is annotated for some of the classes only.

AP* of the paper (section 4.1) is this metric with COCO's classes: a model trained on COCO against the better masks of
LVIS v0.5 ("cocofied" annotations, whose categories are those of COCO).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from pointrend.errors import PointRendError
from pointrend.metrics.base import MetricSettings
from pointrend.metrics.coco import CocoMetric, Pair
from pointrend.metrics.instances import ImageInstances


class LvisMetric(CocoMetric):
    """Average precision and recall by the rules of LVIS, as means over the classes that occur.

    The numbers are named as COCO's, with one average recall; mask_ap_rare, mask_ap_common and mask_ap_frequent are of
    the classes that occur in few, some and many training images, and nan if no frequencies are given.

    Differences from COCO (Gupta et al., CVPR 2019, section 2):

    - detections of a class that was not looked for in the image are ignored;
    - so are unmatched detections of a class whose instances are not all annotated;
    - the detection limit is for all classes of an image together, not for each class.

    Crowds, which LVIS does not have, are treated as COCO's.
    """

    name = "lvis"
    headline: ClassVar = {
        **CocoMetric.headline,
        "mask_ap_rare": "AP rare",
        "mask_ap_common": "AP common",
        "mask_ap_frequent": "AP frequent",
    }

    federated: ClassVar = True

    def __init__(self, settings: MetricSettings) -> None:
        super().__init__(settings, (settings.max_detections,))
        self.frequencies = settings.frequencies or ("",) * self.num_classes

    def keep(self, prediction: ImageInstances, truth: ImageInstances) -> Pair:
        for index in (*truth.absent, *truth.incomplete):
            if not 0 <= index < self.num_classes:
                raise PointRendError(
                    f"image {truth.image_id}: absent and incomplete classes must be 0 to {self.num_classes - 1}, "
                    f"got {index}"
                )
        return super().keep(_judged(prediction, truth, self.detection_limits[-1]), truth)

    def groups(self) -> dict[str, np.ndarray]:
        keys = {"rare": "r", "common": "c", "frequent": "f"}
        return {name: np.array(self.frequencies) == key for name, key in keys.items()}


def _judged(prediction: ImageInstances, truth: ImageInstances, limit: int) -> ImageInstances:
    """Return the detections with the `limit` highest scores, without those of classes that were not looked for.

    faster-coco-eval 1.8 also drops the latter, but fails on images without other detections.
    """
    assert prediction.scores is not None
    looked_for = np.union1d(truth.classes, np.array(truth.absent, dtype=np.int64))
    best = np.sort(np.argsort(-prediction.scores, kind="stable")[:limit])
    kept = best[np.isin(prediction.classes[best], looked_for)]
    return replace(
        prediction,
        boxes=prediction.boxes[kept],
        classes=prediction.classes[kept],
        masks=[prediction.masks[index] for index in kept],
        scores=prediction.scores[kept],
    )
