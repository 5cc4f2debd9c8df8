"""Evaluation of instances in a file of COCO's results format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pointrend.data import Sample, SampleSet
from pointrend.data.annotations import stated_box
from pointrend.data.images import image_size
from pointrend.data.segmentations import mask_to_rle, to_mask
from pointrend.errors import PointRendError
from pointrend.evaluation.split import Evaluation, Scoring, score_split
from pointrend.metrics.instances import ImageInstances

ROW = "results"
"""The name of the only row of such an evaluation."""


def evaluate_results(
    path: Path,
    samples: SampleSet,
    *,
    max_detections: int = 100,
    limit: int | None = None,
    boundary_ratio: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score the instances in a results file against a split.

    Args:
        path: a JSON list of `{"image_id", "category_id", "score", "segmentation"}` with the data set's ids and optional
            `"bbox"` (x, y, width, height; default: that of the mask). Segmentations are polygons or RLE.
        samples: the split.
        max_detections: maximum number of scored detections of an image; for COCO, of a class in an image.
        limit, boundary_ratio, progress: see `Scoring`.

    Raises:
        PointRendError: no such file, or results of images or categories that are not in the split.
    """
    of_image = _read(path, samples)

    def predict(index: int, sample: Sample) -> tuple[tuple[int, int], dict[str, ImageInstances]]:
        size = image_size(sample.image)
        return size, {ROW: _instances(path, of_image[sample.image_id], samples, image_id=index, size=size)}

    return score_split(samples, predict, Scoring(limit, boundary_ratio, max_detections, progress))


def _read(path: Path, samples: SampleSet) -> dict[int | str, list[Mapping[str, Any]]]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PointRendError(f"{path}: expected COCO results, a JSON list of detections ({error})") from error
    of_image: dict[int | str, list[Mapping[str, Any]]] = {sample.image_id: [] for sample in samples.samples}
    if not isinstance(content, list):
        raise PointRendError(f"{path}: expected COCO results, a JSON list of detections, got {type(content).__name__}")
    for index, entry in enumerate(content):
        missing = {"image_id", "category_id", "score", "segmentation"} - set(entry if isinstance(entry, dict) else ())
        if missing:
            raise PointRendError(f"{path}: detection {index} has no {min(missing)!r}")
        image, category = entry["image_id"], entry["category_id"]
        if not isinstance(image, (int, str)) or image not in of_image:
            raise PointRendError(f"{path}: detection {index} is of image {image!r}, which is not in the data")
        if category not in samples.category_ids:
            raise PointRendError(f"{path}: detection {index} is of category {category!r}, which is not in the data")
        of_image[image].append(entry)
    return of_image


def _instances(
    path: Path, entries: Sequence[Mapping[str, Any]], samples: SampleSet, *, image_id: int, size: tuple[int, int]
) -> ImageInstances:
    masks, boxes = [], []
    for entry in entries:
        try:
            mask = to_mask(entry["segmentation"], size)
            boxes.append(stated_box(entry, mask))
        except (ValueError, TypeError) as error:
            raise PointRendError(f"{path}: a detection of image {entry['image_id']}: {error}") from error
        masks.append(mask_to_rle(mask))
    try:
        scores = np.array([float(entry["score"]) for entry in entries], np.float64)
    except (ValueError, TypeError) as error:
        raise PointRendError(f"{path}: a score of image {entries[0]['image_id']} is not a number") from error
    return ImageInstances(
        image_id=image_id,
        size=size,
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        classes=np.array([samples.category_ids.index(entry["category_id"]) for entry in entries], np.int64),
        masks=masks,
        scores=scores,
    )
