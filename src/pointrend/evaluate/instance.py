"""Scores of an instance model on a split: of the coarse masks, the start grid, and the rendered masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pointrend.data.images import read_image
from pointrend.data.instance_layouts import InstanceMasks, InstanceSample, InstanceSet, read_instances
from pointrend.data.segmentations import mask_to_rle
from pointrend.evaluate.semantic import check_class_names
from pointrend.metrics.coco import InstanceMetrics, InstanceScores
from pointrend.metrics.instance_f1 import F1Scores, mean_f1
from pointrend.metrics.instances import ImageInstances
from pointrend.predict import InstancePredictor
from pointrend.results import InstanceResult


@dataclass(frozen=True)
class InstanceRow:
    """Scores of the masks of one stage."""

    scores: InstanceScores
    f1: F1Scores
    """Of detections scored 0.5 and higher."""


@dataclass(frozen=True)
class InstanceEvaluation:
    """Scores in percent of the masks of some stages of rendering; boxes are the same in all."""

    rows: dict[str, InstanceRow]
    """By the stage's name: "coarse", "28x28", "224x224"."""
    class_names: tuple[str, ...]
    num_images: int
    max_detections: tuple[int, int, int]

    def to_dict(self) -> dict[str, object]:
        """For JSON: `{"rows": {"coarse": {"mask": {"ap": ...}, ...}, ...}, ...}`."""
        return {
            "unit": "percent",
            "images": self.num_images,
            "max_detections": list(self.max_detections),
            "rows": {
                name: {**row.scores.to_dict(self.class_names), "f1": row.f1.to_dict()}
                for name, row in self.rows.items()
            },
        }


def evaluate_instances(
    predictor: InstancePredictor,
    samples: InstanceSet,
    *,
    limit: int | None = None,
    boundary_share: float = 0.02,
    progress: Callable[[int, int], None] | None = None,
) -> InstanceEvaluation:
    """Run a model over a split and score it at the images' own sizes.

    The rows are the first, the second and the last of the predictor's `stages`.

    Args:
        predictor: applies the model's test settings. As many detections count as it makes.
        samples: the split; its classes must be the model's.
        limit: only the first so many images.
        boundary_share: the width of the boundary bands as a share of the image's diagonal.
        progress: called with the number of images done and their total.

    Raises:
        ValueError: the classes are not the model's.
    """
    names = tuple(c.name for c in predictor.spec.classes)
    check_class_names(names, tuple(c.name for c in samples.classes))
    stages = predictor.stages
    rows = tuple(dict.fromkeys((0, 1, len(stages) - 1)))
    most = max_detections(predictor.test.max_detections)
    metrics = {row: InstanceMetrics(len(names), max_detections=most, boundary_share=boundary_share) for row in rows}
    predictions: dict[int, list[ImageInstances]] = {row: [] for row in rows}
    truths: list[ImageInstances] = []
    total = len(samples.samples) if limit is None else min(limit, len(samples.samples))
    for index, sample in enumerate(samples.samples[:total]):
        pixels = read_image(sample.image)
        truths.append(ground_truth(sample, index, (pixels.shape[0], pixels.shape[1])))
        detected = predictor.detect(pixels)
        rendered = predictor.render(detected)
        for row in rows:
            found = as_instances(predictor.result(detected, rendered[row], pixels), index)
            metrics[row].update(found, truths[-1])
            predictions[row].append(found)
        if progress is not None:
            progress(index + 1, total)
    return InstanceEvaluation(
        rows={stages[row]: InstanceRow(metrics[row].compute(), mean_f1(predictions[row], truths)) for row in rows},
        class_names=names,
        num_images=total,
        max_detections=most,
    )


def max_detections(most: int) -> tuple[int, int, int]:
    """COCO's three numbers of detections that count, of which the largest is all that a model makes."""
    return (1, 10, max(most, 11)) if most <= 100 else (1, 100, most)


def ground_truth(sample: InstanceSample, image_id: int, size: tuple[int, int]) -> ImageInstances:
    """What an image of `size` (H, W) shows, as the metrics take it."""
    masks = read_instances(sample, size)
    rles = [mask_to_rle(masks.mask(index)) for index in range(len(masks.instance_ids))]
    return ImageInstances(
        image_id=image_id,
        size=size,
        boxes=_extents(masks),
        classes=masks.classes,
        masks=rles,
        crowd=masks.crowd,
    )


def as_instances(result: InstanceResult, image_id: int) -> ImageInstances:
    """A prediction as the metrics take it."""
    height, width = result.image.shape[:2]
    return ImageInstances(
        image_id=image_id,
        size=(height, width),
        boxes=result.boxes,
        classes=result.class_ids,
        masks=[result.masks.rle(index) for index in range(len(result))],
        scores=result.scores,
    )


def _extents(masks: InstanceMasks) -> np.ndarray:
    boxes = np.zeros((len(masks.instance_ids), 4), np.float32)
    for index in range(len(boxes)):
        rows, columns = np.nonzero(masks.mask(index))
        if len(rows):
            boxes[index] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes
