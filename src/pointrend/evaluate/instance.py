"""Scores of an instance model on a split: of the coarse masks, the start grid, and the rendered masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pointrend.data.id_images import CityscapesIds
from pointrend.data.images import read_image
from pointrend.data.instance_layouts import InstanceSample, InstanceSet
from pointrend.evaluate.semantic import check_class_names
from pointrend.evaluate.truth import as_instances, federated, ground_truth
from pointrend.metrics.cityscapes import CityscapesMetrics, CityscapesScores, read_instance_ids
from pointrend.metrics.coco import InstanceMetrics, InstanceScores
from pointrend.metrics.instance_f1 import F1Scores, mean_f1
from pointrend.metrics.instances import ImageInstances
from pointrend.metrics.lvis import LvisMetrics, LvisScores
from pointrend.predict import InstancePredictor


@dataclass(frozen=True)
class InstanceRow:
    """Scores of the masks of one stage."""

    scores: InstanceScores | LvisScores
    """By COCO's rules; on LVIS's annotations by LVIS's, which with COCO's classes is the paper's AP*."""
    f1: F1Scores
    """Of detections scored 0.5 and higher."""
    cityscapes: CityscapesScores | None = None
    """On Cityscapes, by its own rules."""


@dataclass(frozen=True)
class InstanceEvaluation:
    """Scores in percent of the masks of some stages of rendering; boxes are the same in all."""

    rows: dict[str, InstanceRow]
    """By the stage's name: "coarse", "28x28", "224x224"."""
    class_names: tuple[str, ...]
    num_images: int
    max_detections: int
    """How many detections of an image count."""

    def to_dict(self) -> dict[str, object]:
        """For JSON: `{"rows": {"coarse": {"mask": {"ap": ...}, ...}, ...}, ...}`."""
        return {
            "unit": "percent",
            "images": self.num_images,
            "max_detections": self.max_detections,
            "rows": {name: self._row(row) for name, row in self.rows.items()},
        }

    def _row(self, row: InstanceRow) -> dict[str, object]:
        values = {**row.scores.to_dict(self.class_names), "f1": row.f1.to_dict()}
        return values if row.cityscapes is None else {**values, "cityscapes": row.cityscapes.to_dict()}


class InstanceScoring:
    """Collects what was found in the images of a split, and scores it by the rules of its layout.

    Args:
        samples: the split.
        max_detections: how many detections of an image count, COCO: of each class in an image.
        boundary_share: the width of the boundary bands as a share of the image's diagonal.
    """

    def __init__(self, samples: InstanceSet, *, max_detections: int, boundary_share: float) -> None:
        num_classes = len(samples.classes)
        self._coco: InstanceMetrics | None = None
        self._lvis: LvisMetrics | None = None
        self._cityscapes: CityscapesMetrics | None = None
        if samples.name == "lvis":
            known = samples.frequencies if set(samples.frequencies) <= set("rcf") else ()
            self._lvis = LvisMetrics(
                num_classes,
                max_detections=max_detections,
                frequencies=known or None,  # type: ignore[arg-type]  # strings out of a file, just checked
                boundary_share=boundary_share,
            )
        else:
            self._coco = InstanceMetrics(
                num_classes, max_detections=limits(max_detections), boundary_share=boundary_share
            )
        if samples.name == "cityscapes-instances":
            self._cityscapes = CityscapesMetrics([c.name for c in samples.classes])
        self._found: list[ImageInstances] = []
        self._truths: list[ImageInstances] = []

    def update(self, found: ImageInstances, truth: ImageInstances, sample: InstanceSample) -> None:
        """Add one image."""
        if self._coco is not None:
            self._coco.update(found, truth)
        if self._lvis is not None:
            self._lvis.update(found, truth, federated(sample))
        if self._cityscapes is not None:
            assert isinstance(sample.annotations, CityscapesIds)
            self._cityscapes.update(found, read_instance_ids(sample.annotations.path))
        self._found.append(found)
        self._truths.append(truth)

    def compute(self) -> InstanceRow:
        """Scores of everything that was added."""
        metrics = self._coco or self._lvis
        assert metrics is not None
        return InstanceRow(
            scores=metrics.compute(),
            f1=mean_f1(self._found, self._truths),
            cityscapes=None if self._cityscapes is None else self._cityscapes.compute(),
        )


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
    most = predictor.test.max_detections
    rows = {
        row: InstanceScoring(samples, max_detections=most, boundary_share=boundary_share)
        for row in dict.fromkeys((0, 1, len(stages) - 1))
    }
    total = len(samples.samples) if limit is None else min(limit, len(samples.samples))
    for index, sample in enumerate(samples.samples[:total]):
        pixels = read_image(sample.image)
        truth = ground_truth(sample, index, _size(pixels))
        detected = predictor.detect(pixels)
        rendered = predictor.render(detected)
        for row, scoring in rows.items():
            scoring.update(as_instances(predictor.result(detected, rendered[row], pixels), index), truth, sample)
        if progress is not None:
            progress(index + 1, total)
    return InstanceEvaluation(
        rows={stages[row]: scoring.compute() for row, scoring in rows.items()},
        class_names=names,
        num_images=total,
        max_detections=most,
    )


def limits(most: int) -> tuple[int, int, int]:
    """COCO's three numbers of detections that count, of which the largest is all that a model makes."""
    return (1, 10, max(most, 11)) if most <= 100 else (1, 100, most)


def _size(pixels: np.ndarray) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]
