"""Evaluation of a model of any task on a split: rows of numbers by name, before and after rendering."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pointrend.data import Sample, SampleSet, ensure_sound, find_samples
from pointrend.data.images import read_photo
from pointrend.errors import PointRendError
from pointrend.evaluation.submissions import submission
from pointrend.metrics import metrics_named
from pointrend.metrics.base import MetricSettings, SplitMetric
from pointrend.predict import PredictOptions
from pointrend.processes import ALONE, Processes
from pointrend.tasks import TASKS, samples_of
from pointrend.zoo import Model

Rows = dict[str, dict[str, float]]
"""Numbers by name of each stage of rendering; those of a class are named `iou/CLASS`."""


@dataclass(frozen=True)
class Scoring:
    """How predictions on a split are scored."""

    limit: int | None = None
    """Score only the first so many images."""
    boundary_ratio: float | None = None
    """Ratio of the width of boundary bands to the image's diagonal; None: the metric's default."""
    max_detections: int | None = None
    """The maximum number of scored detections of an image; None for models without detections."""
    progress: Callable[[int, int], None] | None = None
    """Called with the number of images done and their total."""
    processes: Processes = ALONE
    """The processes that share the images; every image is predicted and counted once."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model or a results file on a split, in percent."""

    rows: Rows
    class_names: tuple[str, ...]
    num_images: int
    max_detections: int | None
    """The maximum number of scored detections of an image; None for models without detections."""
    headline: Mapping[str, str]
    """The numbers shown in tables, the most important first, and their titles."""
    per_class: Mapping[str, str]
    """The numbers shown in the table of classes, and their titles."""
    passes: Mapping[str, object] = field(default_factory=dict)
    """How the network saw an image, see `PredictOptions.passes`; empty for a results file."""

    def to_dict(self) -> dict[str, object]:
        """Return the scores for JSON, with None for NaN: `{"scales": [1.0], "rows": {"coarse": {...}, ...}}`."""
        rows = {
            row: {name: None if math.isnan(value) else value for name, value in numbers.items()}
            for row, numbers in self.rows.items()
        }
        limit = {} if self.max_detections is None else {"max_detections": self.max_detections}
        return {"unit": "percent", "images": self.num_images, **self.passes, **limit, "rows": rows}


def evaluate(
    model: Model,
    data: str | Path | SampleSet,
    *,
    split: str | None = None,
    layout: str | None = None,
    options: PredictOptions = PredictOptions(),
    limit: int | None = None,
    boundary_ratio: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    processes: Processes = ALONE,
    observe: Callable[[Sample, Mapping[str, Any]], None] | None = None,
    submit: str | Path | None = None,
) -> Evaluation:
    """Run a model on a split and score it at the images' sizes, before and after rendering.

    Args:
        model: from `load_model`.
        data: a split, or the folder of a data set, whose files are checked first.
        split: of the folder.
        layout: of the folder, see `find_samples`.
        options: changes to the model's test settings. All detections of the model are scored.
        limit: score only the first so many images.
        boundary_ratio: see `Scoring`.
        progress: see `Scoring`.
        processes: that share the images. All return the scores of all images.
        observe: called with each image and its results by stage.
        submit: a folder to write the rendered results into, as the data set's benchmark takes them; see `submission`.
            A split without labels is then predicted, and not scored.

    Raises:
        PointRendError: the split has unusable files, its classes differ from the model's, or `submit` has other files.
    """
    if not isinstance(data, SampleSet):
        of_task = samples_of(model.spec.task)
        data = find_samples(Path(data), task=of_task, layout=layout, split=split, labelled=submit is None)
        ensure_sound(data, reading=model.spec.input.reading)
    check_class_names(model.spec.class_names, data.class_names)
    if submit is not None and processes.count > 1:
        raise PointRendError(f"a submission needs all images in one process, and {processes.count} share them")
    predictor = model.scoring_predictor(options)
    task = model.task
    if task.metrics and data.metrics:
        if submit is not None:
            raise PointRendError(f"benchmarks take one class a pixel, {model.spec.name} {predictor.does}")
        data = replace(data, metrics=task.metrics)

    def predict(index: int, sample: Sample) -> tuple[tuple[int, int], dict[str, Any]]:
        pixels = read_photo(sample.image, model.spec.input.reading).pixels
        results = predictor.compare(pixels)
        if observe is not None:
            observe(sample, results)
        take(sample, list(results.values())[-1])
        rows = {row: task.prediction(result, index) for row, result in results.items()}
        return (pixels.shape[0], pixels.shape[1]), rows

    detection = getattr(predictor.test, "detection", None)
    max_detections = None if detection is None else detection.max_detections
    with submission(submit, data, name=model.spec.name) as take:
        scores = score_split(data, predict, Scoring(limit, boundary_ratio, max_detections, progress, processes))
    return replace(scores, passes=options.passes())


def score_split(
    samples: SampleSet,
    predict: Callable[[int, Sample], tuple[tuple[int, int], Mapping[str, Any]]],
    scoring: Scoring = Scoring(),
) -> Evaluation:
    """Score predictions by the metrics of a split; one without labels has none.

    Args:
        samples: the split.
        predict: called with an image's index and sample; returns its size (H, W), and its prediction for each row.
        scoring: which images and detections count, and how.
    """
    settings = MetricSettings(
        class_names=samples.class_names,
        boundary_ratio=scoring.boundary_ratio,
        # Annotation files other than LVIS's lack frequencies.
        frequencies=samples.frequencies if set(samples.frequencies) <= {"r", "c", "f"} else (),
    )
    if scoring.max_detections is not None:
        settings = replace(settings, max_detections=scoring.max_detections)
    as_truth = TASKS[samples.task].truth
    chosen = samples.samples[: scoring.limit]
    metrics: dict[str, list[SplitMetric]] = {}
    processes = scoring.processes
    for done, (index, sample) in enumerate(processes.mine(chosen), start=1):
        size, rows = predict(index, sample)
        truth = as_truth(sample.annotations.truth(size), index, size) if samples.metrics else None
        for row, prediction in rows.items():
            if row not in metrics:
                metrics[row] = metrics_named(samples.metrics, settings)
            for metric in metrics[row]:
                metric.update(prediction, truth)
        if scoring.progress is not None:
            scoring.progress(min(done * processes.count, len(chosen)), len(chosen))
    kinds = metrics_named(samples.metrics, settings)
    if processes.count > 1:
        _join(metrics, processes, lambda: metrics_named(samples.metrics, settings))
    return Evaluation(
        rows={row: {k: v for one in of_row for k, v in one.compute().items()} for row, of_row in metrics.items()},
        class_names=settings.class_names,
        num_images=len(chosen),
        max_detections=scoring.max_detections,
        headline={name: title for metric in kinds for name, title in metric.headline.items()},
        per_class={name: title for metric in kinds for name, title in metric.per_class.items()},
    )


def _join(metrics: dict[str, list[SplitMetric]], processes: Processes, made: Callable[[], list[SplitMetric]]) -> None:
    """Give the metrics of every process the images of all; a process without images has no rows yet."""
    for row in max(processes.gathered(list(metrics)), key=len):
        for metric in metrics.setdefault(row, made()):
            metric.join(processes.gathered(metric.collected()))


def check_class_names(of_model: tuple[str, ...], of_data: tuple[str, ...]) -> None:
    """Raise `PointRendError` with the first difference if a model and a split differ in number or order of classes."""
    if len(of_data) != len(of_model):
        raise PointRendError(f"the model has {len(of_model)} classes, the data {len(of_data)}")
    for index, (ours, theirs) in enumerate(zip(of_model, of_data, strict=True)):
        if ours != theirs:
            raise PointRendError(f"class {index} is {ours!r} in the model, but {theirs!r} in the data")
