"""Quality and rendering time by the number of points."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pointrend.data import Sample, SampleSet
from pointrend.data.images import read_photo
from pointrend.devices import synchronize
from pointrend.evaluation import Scoring, score_split
from pointrend.predict import PredictOptions
from pointrend.zoo import Model

FACTORS = (1 / 64, 1 / 16, 1 / 4, 1, 4)
"""What the model's own number of points is multiplied by."""
IMAGES = 40
"""The maximum number of images that this is measured on."""


@dataclass(frozen=True)
class QualityPoint:
    """The scores and the time of rendering with one number of points."""

    points: int
    scores: dict[str, float]
    """By the names of the split's main numbers."""
    milliseconds: float
    """Median over images of rendering alone: from the network's output to labels or masks at the image's size."""
    images: int


def quality_by_points(
    model: Model,
    samples: SampleSet,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[QualityPoint]:
    """Render the first images with several numbers of points; each image is encoded once.

    Args:
        model: of any task.
        samples: the split.
        limit: the maximum number of images; at most 40 are taken.
        progress: called with the number of images done and their total.
    """
    own = model.spec.test.subdivision.num_points
    counts = sorted({max(1, round(own * factor)) for factor in FACTORS})
    predictors = {count: model.scoring_predictor(PredictOptions(points=count)) for count in counts}
    whole = model.scoring_predictor()
    seconds: dict[int, list[float]] = {count: [] for count in counts}

    def predict(index: int, sample: Sample) -> tuple[tuple[int, int], dict[str, Any]]:
        pixels = read_photo(sample.image, model.spec.input.reading).pixels
        encoded = whole.encode(pixels)
        rows = {}
        for count, predictor in predictors.items():
            synchronize(model.device)
            started = time.perf_counter()
            result = predictor.final(encoded, pixels)
            synchronize(model.device)
            seconds[count].append(time.perf_counter() - started)
            rows[str(count)] = model.task.prediction(result, index)
        return (pixels.shape[0], pixels.shape[1]), rows

    detection = getattr(whole.test, "detection", None)
    maximum = None if detection is None else detection.max_detections
    found = score_split(samples, predict, Scoring(min(limit or IMAGES, IMAGES), None, maximum, progress))
    return [
        QualityPoint(
            points=count,
            scores={name: found.rows[str(count)][name] for name in found.headline},
            milliseconds=1000 * statistics.median(seconds[count]),
            images=found.num_images,
        )
        for count in counts
    ]
