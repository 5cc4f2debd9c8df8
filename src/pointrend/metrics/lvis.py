"""Average precision on LVIS: annotations are federated, so an image says nothing of most classes.

AP* of the paper (section 4.1) is this with COCO's classes: detections of a model trained on COCO, against the better
masks of LVIS v0.5 ("cocofied" annotations, where LVIS categories are those of COCO).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pointrend.metrics.coco import by_name, json_number, percent
from pointrend.metrics.coco_evaluation import AREAS, Curves, Federated, precision_recall
from pointrend.metrics.instances import ImageInstances, check_pair

Frequency = Literal["r", "c", "f"]
"""In how many training images a class occurs: rare (up to 10), common (up to 100), frequent."""

__all__ = ["Federated", "Frequency", "LvisApScores", "LvisMetrics", "LvisScores"]


@dataclass(frozen=True)
class LvisApScores:
    """Average precision in percent, means over the classes that occur; nan where nothing counts."""

    ap: float
    """Mean over IoU 0.5, 0.55, ... 0.95."""
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ap_rare: float
    """Of rare classes; nan if no frequencies were given."""
    ap_common: float
    ap_frequent: float
    ar: float
    """Average recall at all detections."""
    per_class: tuple[float, ...]
    """`ap` of each class."""

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Scores for JSON, nan as None, `per_class` by name.

        Raises:
            ValueError: `class_names` are not one distinct name a class.
        """
        means = {name: json_number(value) for name, value in vars(self).items() if name != "per_class"}
        return {**means, "per_class": by_name(class_names, self.per_class)}


@dataclass(frozen=True)
class LvisScores:
    """Scores of everything that was found in a data set."""

    box: LvisApScores
    mask: LvisApScores
    boundary: LvisApScores

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Scores for JSON. Raises as `LvisApScores.to_dict` does."""
        kinds = {"box": self.box, "mask": self.mask, "boundary": self.boundary}
        return {kind: scores.to_dict(class_names) for kind, scores in kinds.items()}


class LvisMetrics:
    """Collects the instances of images, and computes LVIS's scores of all of them.

    What differs from COCO (Gupta et al., CVPR 2019, section 2):

    - a detection of a class that was not looked for in its image counts for nothing;
    - so does one that matches nothing, where not all instances of its class are annotated;
    - the highest scores of an image count, of all classes together, and not of each class.

    Args:
        num_classes: C, without background.
        max_detections: how many detections of an image count.
        frequencies: of each class, "r", "c" or "f", for the scores of rare, common and frequent ones.
        boundary_share: width of the boundary band as a share of each image's diagonal.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        max_detections: int = 300,
        frequencies: Sequence[Frequency] | None = None,
        boundary_share: float = 0.02,
    ) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        if max_detections < 1:
            raise ValueError(f"max_detections must be at least 1, got {max_detections}")
        if not 0 < boundary_share < 1:
            raise ValueError(f"boundary_share must be between 0 and 1, got {boundary_share}")
        if frequencies is not None and (len(frequencies) != num_classes or set(frequencies) - set("rcf")):
            raise ValueError(f"frequencies must be one of r, c, f for each of {num_classes} classes, got {frequencies}")
        self.num_classes = num_classes
        self.max_detections = max_detections
        self.frequencies = None if frequencies is None else tuple(frequencies)
        self.boundary_share = boundary_share
        self._images: dict[int, tuple[ImageInstances, ImageInstances, Federated]] = {}

    def __len__(self) -> int:
        """How many images were added."""
        return len(self._images)

    def update(self, predictions: ImageInstances, truth: ImageInstances, federated: Federated) -> None:
        """Adds one image. LVIS has no crowds; `truth.crowd` is respected all the same.

        Args:
            predictions: with scores.
            truth: all annotated instances.
            federated: what the annotations say of classes in this image.

        Raises:
            ValueError: they do not belong together, have a class that is none, or the image was added before.
                Nothing is added then.
        """
        check_pair(predictions, truth, self.num_classes)
        if truth.image_id in self._images:
            raise ValueError(f"image {truth.image_id} was added before: every image counts once")
        for index in (*federated.absent, *federated.incomplete):
            if not 0 <= index < self.num_classes:
                raise ValueError(
                    f"image {truth.image_id}: absent and incomplete classes must be 0 to {self.num_classes - 1}, "
                    f"got {index}"
                )
        judged = _judged(predictions, truth, federated, self.max_detections)
        self._images[truth.image_id] = (judged, truth, federated)

    def compute(self) -> LvisScores:
        """Scores of everything that was added so far.

        Raises:
            ImportError: faster-coco-eval is not installed; says how to install it.
        """
        return LvisScores(
            box=self._scores(boxes=True),
            mask=self._scores(),
            boundary=self._scores(boundary_share=self.boundary_share),
        )

    def _scores(self, *, boxes: bool = False, boundary_share: float | None = None) -> LvisApScores:
        images = [self._images[image_id] for image_id in sorted(self._images)]
        curves = precision_recall(
            [predictions for predictions, _, _ in images],
            [truth for _, truth, _ in images],
            num_classes=self.num_classes,
            max_detections=(self.max_detections,),
            boxes=boxes,
            boundary_share=boundary_share,
            federated=[federated for _, _, federated in images],
        )
        return self._means(curves)

    def _means(self, curves: Curves) -> LvisApScores:
        precision = curves.precision[..., -1]
        by_area = {name: percent(precision[..., index]) for index, name in enumerate(AREAS)}
        frequencies = np.array(self.frequencies if self.frequencies is not None else [""] * self.num_classes)
        by_frequency = {key: percent(precision[:, :, frequencies == key, 0]) for key in "rcf"}
        return LvisApScores(
            ap=by_area["all"],
            ap50=percent(precision[np.isclose(curves.thresholds, 0.5), ..., 0]),
            ap75=percent(precision[np.isclose(curves.thresholds, 0.75), ..., 0]),
            ap_small=by_area["small"],
            ap_medium=by_area["medium"],
            ap_large=by_area["large"],
            ap_rare=by_frequency["r"],
            ap_common=by_frequency["c"],
            ap_frequent=by_frequency["f"],
            ar=percent(curves.recall[:, :, 0, -1]),
            per_class=tuple(percent(precision[:, :, index, 0]) for index in range(self.num_classes)),
        )


def _judged(predictions: ImageInstances, truth: ImageInstances, federated: Federated, limit: int) -> ImageInstances:
    """The `limit` highest scores of an image, the first ones of equal scores, and of these what can be judged.

    faster-coco-eval 1.8 drops detections of classes that were not looked for, too, but fails when an image has no
    others.
    """
    assert predictions.scores is not None
    looked_for = np.union1d(truth.classes, np.array(federated.absent, dtype=np.int64))
    best = np.sort(np.argsort(-predictions.scores, kind="stable")[:limit])
    kept = best[np.isin(predictions.classes[best], looked_for)]
    return replace(
        predictions,
        boxes=predictions.boxes[kept],
        classes=predictions.classes[kept],
        masks=[predictions.masks[index] for index in kept],
        scores=predictions.scores[kept],
    )
