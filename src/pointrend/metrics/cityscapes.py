"""Average precision of instances as Cityscapes defines it, by cityscapesscripts.

Its rules differ from COCO's: IoU must be over the threshold, a double detection is a false positive whatever its
score, the curve is not interpolated, ground truth under 100 pixels does not count, and detections that lie in void,
in groups or in such small ground truth are not held against the model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle_masks

from pointrend.metrics.coco import by_name, json_number, percent
from pointrend.metrics.instances import ImageInstances, check_classes

CITYSCAPES_CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
"""The classes with instances, by rising label id."""


@dataclass(frozen=True)
class CityscapesScores:
    """Average precision in percent, means over the classes that occur; nan where nothing counts."""

    ap: float
    """Mean over IoU 0.5, 0.55, ... 0.95."""
    ap50: float
    per_class: tuple[float, ...]
    """`ap` of each class."""
    per_class50: tuple[float, ...]
    class_names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Scores for JSON, nan as None, those of classes by name."""
        return {
            "ap": json_number(self.ap),
            "ap50": json_number(self.ap50),
            "per_class": by_name(self.class_names, self.per_class),
            "per_class50": by_name(self.class_names, self.per_class50),
        }


class CityscapesMetrics:
    """Counts overlaps image by image, and computes Cityscapes' scores of all of them.

    Overlaps are counted here, on masks as they are. The script's own reading of mask files uses a function that
    numpy 2.4 no longer has, and takes a file for every detection. Matching and curves are the script's.

    Args:
        class_names: Cityscapes' names of the model's classes, in the model's order.

    Raises:
        ValueError: a name is no Cityscapes class with instances.
        ImportError: cityscapesscripts is not installed; says how to install it.
    """

    def __init__(self, class_names: Sequence[str] = CITYSCAPES_CLASSES) -> None:
        try:
            from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script
        except ImportError as error:
            raise ImportError("Cityscapes AP needs cityscapesscripts: pip install 'pointrend[train]'") from error
        self._script = script
        self._settings = copy.copy(script.args)  # the module's own must not change for others
        script.setInstanceLabels(self._settings)
        unknown = sorted(set(class_names) - set(self._settings.instLabels))
        if unknown or len(set(class_names)) != len(class_names) or not class_names:
            raise ValueError(
                f"class_names must be distinct names out of {self._settings.instLabels}, got {list(class_names)}"
            )
        self.class_names = tuple(class_names)
        self._label_of = {script.name2label[name].id: name for name in self.class_names}
        self._void = [label.id for label in script.labels if label.ignoreInEval]
        self._known = [label.id for label in script.labels if label.id >= 0]
        self._matches: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {}

    def __len__(self) -> int:
        """How many images were added."""
        return len(self._matches)

    def update(self, predictions: ImageInstances, instance_ids: np.ndarray) -> None:
        """Adds one image.

        Args:
            predictions: with scores; boxes play no part, empty masks are left out.
            instance_ids: int (H, W) as in `*_gtFine_instanceIds.png`: the label id, or for an instance 1000 times
                its label id plus a number.

        Raises:
            ValueError: they do not belong together, hold classes or ids that are none, or the image was added
                before. Nothing is added then.
        """
        check_classes("predicted", predictions, len(self.class_names))
        key = str(predictions.image_id)
        if key in self._matches:
            raise ValueError(f"image {key} was added before: every image counts once")
        if instance_ids.shape != tuple(predictions.size):
            raise ValueError(
                f"image {key}: instance_ids must have the predictions' size {tuple(predictions.size)}, "
                f"got {instance_ids.shape}"
            )
        if predictions.scores is None:
            raise ValueError(f"image {key}: predictions need scores, got None")
        pixels = self._pixels(instance_ids, key)
        self._matches[key] = self._overlaps(predictions, predictions.scores, instance_ids, pixels)

    def compute(self) -> CityscapesScores:
        """Scores of everything that was added so far."""
        ap = np.array([[self._ap(name, iou) for iou in self._settings.overlaps] for name in self.class_names])
        return CityscapesScores(
            ap=percent(ap),
            ap50=percent(ap[:, 0]),
            per_class=tuple(percent(row) for row in ap),
            per_class50=tuple(percent(row[:1]) for row in ap),
            class_names=self.class_names,
        )

    def _pixels(self, instance_ids: np.ndarray, key: str) -> np.ndarray:
        """How often each instance id occurs."""
        if instance_ids.dtype.kind not in "iu" or (instance_ids.size and instance_ids.min() < 0):
            raise ValueError(f"image {key}: instance_ids must be integers from 0, got {instance_ids.dtype}")
        pixels = np.bincount(instance_ids.ravel())
        present = np.flatnonzero(pixels)
        unknown = present[~np.isin(_labels(present), self._known)]
        if len(unknown):
            raise ValueError(
                f"image {key}: {unknown[0]} is no Cityscapes instance id: "
                "is the ground truth an instanceIds image (labelIds and color are others)?"
            )
        return pixels

    def _overlaps(
        self, predictions: ImageInstances, scores: np.ndarray, instance_ids: np.ndarray, pixels: np.ndarray
    ) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """What the script calls the matches of one image: who overlaps with whom, in pixels."""
        truth: dict[str, list[dict[str, Any]]] = {name: [] for name in self.class_names}
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in self.class_names}
        present = np.flatnonzero(pixels)
        for instance, label in zip(present.tolist(), _labels(present).tolist(), strict=True):
            if label in self._label_of:
                # Distances are for ground truth in 3D, which this is not.
                one = {"instID": instance, "labelID": label, "pixelCount": int(pixels[instance])}
                truth[self._label_of[label]].append({**one, "medDist": -1, "distConf": 0.0, "matchedPred": []})
        for index, mask in enumerate(predictions.masks):
            under = np.bincount(instance_ids[rle_masks.decode(mask).astype(bool)], minlength=len(pixels))
            if not under.any():
                continue
            name = self.class_names[predictions.classes[index]]
            one = {"pixelCount": int(under.sum()), "confidence": float(scores[index])}
            for region in truth[name]:
                if under[region["instID"]]:
                    region["matchedPred"].append({**one, "intersection": int(under[region["instID"]])})
            matched = [
                {**region, "matchedPred": [], "intersection": int(under[region["instID"]])}
                for region in truth[name]
                if under[region["instID"]]
            ]
            void = int(sum(under[label] for label in self._void if 0 <= label < len(under)))
            found[name].append({**one, "voidIntersection": void, "matchedGt": matched})
        return {"groundTruth": truth, "prediction": found}

    def _ap(self, name: str, iou: float) -> float:
        """AP of one class at one IoU threshold, as a fraction."""
        settings = copy.copy(self._settings)
        settings.instLabels, settings.overlaps = [name], np.array([iou])
        try:
            return float(self._script.evaluateMatches(self._matches, settings)[0, 0, 0])
        except IndexError:
            # The script takes the last of no examples where there is ground truth and every detection is one that
            # is not held against the model. Then nothing was found.
            return 0.0


def read_instance_ids(path: Path) -> np.ndarray:
    """The int32 (H, W) ids of a `*_gtFine_instanceIds.png`.

    Raises:
        ValueError: it cannot be read, or is no image with one channel.
    """
    try:
        with Image.open(path) as image:
            ids = np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: expected an instanceIds image, which cannot be read: {error}") from error
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ValueError(f"{path}: an instanceIds image has one channel of integers, got {ids.shape} {ids.dtype}")
    return ids.astype(np.int32)


def _labels(instance_ids: np.ndarray) -> np.ndarray:
    return np.where(instance_ids < 1000, instance_ids, instance_ids // 1000)
