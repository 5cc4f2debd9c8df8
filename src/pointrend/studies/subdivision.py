"""The study of inference: output resolution by points of a step (paper, table 3), of a model without training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pointrend.data import Sample, SampleSet
from pointrend.data.images import read_photo
from pointrend.evaluation import score_split
from pointrend.evaluation.split import Scoring
from pointrend.predict import PredictOptions
from pointrend.studies.table import Spread, StudyTable
from pointrend.zoo import Model


@dataclass(frozen=True)
class _Cell:
    steps: int
    points: int

    @property
    def key(self) -> str:
        return f"{self.steps} steps of {self.points}"


def subdivision_study(
    model: Model,
    samples: SampleSet,
    *,
    steps: Sequence[int],
    points: Sequence[int],
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[StudyTable]:
    """Score a model rendered to several resolutions with several numbers of points; each image is encoded once.

    Args:
        model: of any task.
        samples: the split, whose files were checked.
        steps: numbers of subdivision steps, each of which doubles the resolution.
        points: numbers of points of a step.
        limit, progress: see `Scoring`.

    Returns:
        A table for each of the split's main numbers, with rows of resolutions and columns of points. Images are not
        predicted in tiles.

    Raises:
        PointRendError: a number is out of range for the model.
    """
    cells = [_Cell(step, count) for step in steps for count in points]
    predictors = {cell: model.scoring_predictor(PredictOptions(steps=cell.steps, points=cell.points)) for cell in cells}
    whole = model.scoring_predictor()
    task = model.task

    def predict(index: int, sample: Sample) -> tuple[tuple[int, int], dict[str, Any]]:
        pixels = read_photo(sample.image, model.spec.input.reading).pixels
        encoded = whole.encode(pixels)
        rows = {
            cell.key: task.prediction(predictor.final(encoded, pixels), index) for cell, predictor in predictors.items()
        }
        return (pixels.shape[0], pixels.shape[1]), rows

    detection = getattr(whole.test, "detection", None)
    maximum = None if detection is None else detection.max_detections
    scores = score_split(samples, predict, Scoring(limit, None, maximum, progress))
    numbers = [name for name in ("miou", "boundary_iou", "mask_ap", "boundary_ap") if name in scores.headline]
    return [
        StudyTable(
            title=f"{scores.headline[number]}, {scores.num_images} images",
            columns=("output resolution", *(f"{count:,} points" for count in points)),
            rows=tuple(
                (
                    whole.resolution(step),
                    *(Spread((scores.rows[_Cell(step, count).key][number],)) for count in points),
                )
                for step in steps
            ),
        )
        for number in numbers
    ]
