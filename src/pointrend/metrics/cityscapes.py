"""Average precision of instances as Cityscapes defines it, by cityscapesscripts.

Differences from COCO: IoU must exceed the threshold, a double detection is a false positive whatever its score, the
curve is not interpolated, ground truth under 100 pixels is ignored, and detections in void, in groups or in such small
ground truth are no false positives.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
from pycocotools import mask as rle_masks

from pointrend.errors import PointRendError
from pointrend.metrics.base import InstanceMetric, MetricSettings, percent
from pointrend.metrics.instances import ImageInstances

CITYSCAPES_CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
"""The classes with instances, by rising label id."""

Matches = dict[str, dict[str, list[dict[str, Any]]]]
"""The script's matches of one image: the overlapping regions and detections with their numbers of common pixels."""


class CityscapesMetric(InstanceMetric[Matches]):
    """Average precision by the rules of Cityscapes, as means over the classes that occur.

    The number cityscapes_ap is the mean over IoU 0.5, 0.55, ... 0.95, and cityscapes_ap50 is at IoU 0.5;
    cityscapes_ap/CLASS and cityscapes_ap50/CLASS are of one class. The ground truth needs `instance_ids`. Boxes and
    predicted masks without pixels are ignored.

    The script matches and computes the curves. Overlaps are counted here, because the script reads masks from a file
    per detection and by a function that numpy 2.4 lacks.

    Raises:
        PointRendError: a class name is not one of Cityscapes' classes with instances.
        ImportError: cityscapesscripts is not installed; the message has the install command.
    """

    name = "cityscapes"
    headline: ClassVar = {"cityscapes_ap": "Cityscapes AP", "cityscapes_ap50": "Cityscapes AP50"}

    def __init__(self, settings: MetricSettings) -> None:
        super().__init__(settings)
        try:
            from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script
        except ImportError as error:
            raise ImportError("Cityscapes AP needs cityscapesscripts: pip install 'pointrend[train]'") from error
        self._script = script
        self._settings = copy.copy(script.args)  # so that the module's global stays unchanged
        script.setInstanceLabels(self._settings)
        if set(self.class_names) - set(self._settings.instLabels):
            raise PointRendError(
                f"class_names must be distinct names out of {self._settings.instLabels}, got {list(self.class_names)}"
            )
        self._label_of = {script.name2label[name].id: name for name in self.class_names}
        self._void = [label.id for label in script.labels if label.ignoreInEval]
        self._label_ids = [label.id for label in script.labels if label.id >= 0]

    def keep(self, prediction: ImageInstances, truth: ImageInstances) -> Matches:
        """Count overlaps; raise ValueError if `truth.instance_ids` is missing, of another size or has invalid ids."""
        ids, key = truth.instance_ids, truth.image_id
        if ids is None:
            raise ValueError(f"image {key}: the ground truth needs instance_ids, got None")
        if ids.shape != tuple(prediction.size):
            raise ValueError(
                f"image {key}: instance_ids must have the predictions' size {tuple(prediction.size)}, got {ids.shape}"
            )
        assert prediction.scores is not None
        return self._overlaps(prediction, prediction.scores, ids, self._pixels(ids, key))

    def compute(self) -> dict[str, float]:
        """Compute the numbers of all added images."""
        matches = {str(index): of_image for index, of_image in enumerate(self.kept())}
        ious = self._settings.overlaps
        ap = np.array([[self._ap(matches, name, iou) for iou in ious] for name in self.class_names])
        numbers = {"cityscapes_ap": percent(ap), "cityscapes_ap50": percent(ap[:, 0])}
        for name, row in zip(self.class_names, ap, strict=True):
            numbers |= {f"cityscapes_ap/{name}": percent(row), f"cityscapes_ap50/{name}": percent(row[:1])}
        return numbers

    def _pixels(self, instance_ids: np.ndarray, key: int) -> np.ndarray:
        """Count the pixels of each instance id."""
        if instance_ids.dtype.kind not in "iu" or (instance_ids.size and instance_ids.min() < 0):
            raise ValueError(f"image {key}: instance_ids must be integers from 0, got {instance_ids.dtype}")
        pixels = np.bincount(instance_ids.ravel())
        present = np.flatnonzero(pixels)
        unknown = present[~np.isin(_labels(present), self._label_ids)]
        if len(unknown):
            raise PointRendError(
                f"image {key}: {unknown[0]} is not a Cityscapes instance id; "
                "the ground truth must be an instanceIds image, not labelIds or color"
            )
        return pixels

    def _overlaps(
        self, predictions: ImageInstances, scores: np.ndarray, instance_ids: np.ndarray, pixels: np.ndarray
    ) -> Matches:
        """Count the common pixels of the detections and regions of one image."""
        truth: dict[str, list[dict[str, Any]]] = {name: [] for name in self.class_names}
        detections: dict[str, list[dict[str, Any]]] = {name: [] for name in self.class_names}
        present = np.flatnonzero(pixels)
        for instance, label in zip(present.tolist(), _labels(present).tolist(), strict=True):
            if label in self._label_of:
                # The script needs the distances of 3D ground truth; these mean "unknown".
                one = {"instID": instance, "labelID": label, "pixelCount": int(pixels[instance])}
                truth[self._label_of[label]].append({**one, "medDist": -1, "distConf": 0.0, "matchedPred": []})
        for index, mask in enumerate(predictions.masks):
            under = np.bincount(instance_ids[rle_masks.decode(mask).astype(bool)], minlength=len(pixels))
            if not under.any():
                continue
            name = self.class_names[predictions.classes[index]]
            one = {"pixelCount": int(under.sum()), "confidence": float(scores[index])}
            matched = []
            for region in truth[name]:
                if common := int(under[region["instID"]]):
                    region["matchedPred"].append({**one, "intersection": common})
                    matched.append({**region, "matchedPred": [], "intersection": common})
            void = int(sum(under[label] for label in self._void if 0 <= label < len(under)))
            detections[name].append({**one, "voidIntersection": void, "matchedGt": matched})
        return {"groundTruth": truth, "prediction": detections}

    def _ap(self, matches: dict[str, Matches], name: str, iou: float) -> float:
        """Compute the AP, in [0, 1], of one class at one IoU threshold."""
        settings = copy.copy(self._settings)
        settings.instLabels, settings.overlaps = [name], np.array([iou])
        try:
            return float(self._script.evaluateMatches(matches, settings)[0, 0, 0])
        except IndexError:
            # The script indexes an empty list if there is ground truth but every detection is ignored.
            return 0.0


def _labels(instance_ids: np.ndarray) -> np.ndarray:
    return np.where(instance_ids < 1000, instance_ids, instance_ids // 1000)
