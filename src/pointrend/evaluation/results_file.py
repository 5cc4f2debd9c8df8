"""Evaluation of instances in a file of COCO's results format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pointrend.data import Sample, SampleSet
from pointrend.data.coco_file import Box, stated_box
from pointrend.data.images import image_size
from pointrend.data.instance_masks import extent
from pointrend.data.json_files import finite, read_json, whole
from pointrend.data.segmentations import mask_to_rle, to_mask
from pointrend.errors import PointRendError, shown, warn
from pointrend.evaluation.split import Evaluation, Scoring, score_split
from pointrend.metrics.instances import ImageInstances

DEFAULT_DETECTIONS = 100
"""The maximum number of detections that COCO scores."""
ROW = "results"
"""The name of the only row of such an evaluation."""


class _Detection(NamedTuple):
    number: int
    """Its index in the file."""
    label: int
    score: float
    box: Box | None
    segmentation: Any


def evaluate_results(
    path: Path,
    samples: SampleSet,
    *,
    max_detections: int = DEFAULT_DETECTIONS,
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
    per_class = [Counter(one.label for one in found).most_common(1) for found in of_image.values()]
    if cut := sum(bool(largest) and largest[0][1] > max_detections for largest in per_class):
        warn(
            f"{path}: {cut} images have more than {max_detections} detections of a class, of "
            f"which the best {max_detections} count; --max-detections N (max_detections=N) counts more"
        )

    def predict(index: int, sample: Sample) -> tuple[tuple[int, int], dict[str, ImageInstances]]:
        size = image_size(sample.image)
        return size, {ROW: _instances(path, of_image[sample.image_id], image_id=index, size=size)}

    return score_split(samples, predict, Scoring(limit, boundary_ratio, max_detections, progress))


def _read(path: Path, samples: SampleSet) -> dict[int | str, list[_Detection]]:
    label_of = {category: label for label, category in enumerate(samples.category_ids)}
    content = read_json(path)
    of_image: dict[int | str, list[_Detection]] = {sample.image_id: [] for sample in samples.samples}
    if not isinstance(content, list):
        raise PointRendError(f"{path}: expected COCO results, a JSON list of detections, got {type(content).__name__}")
    for index, entry in enumerate(content):
        missing = {"image_id", "category_id", "score", "segmentation"} - set(entry if isinstance(entry, dict) else ())
        if missing:
            raise PointRendError(f"{path}: detection {index} has no {min(missing)!r}")
        try:
            image = _image_id(entry["image_id"], of_image)
            category = whole(entry["category_id"], "category_id")
            score = finite(entry["score"], "score")
            box = stated_box(entry)
        except PointRendError as error:
            raise PointRendError(f"{path}: detection {index}: {error}") from error
        if category not in label_of:
            raise PointRendError(f"{path}: detection {index} is of category {category}, which is not in the data")
        of_image[image].append(_Detection(index, label_of[category], score, box, entry["segmentation"]))
    return of_image


def _image_id(value: object, known: Collection[int | str]) -> int | str:
    if isinstance(value, str) and value in known:
        return value
    image = whole(value, "image_id") if not isinstance(value, str) or value.strip("-").isdecimal() else None
    if image is None or image not in known:
        raise PointRendError(f"is of image {shown(value)}, which is not in the data")
    return image


def _instances(path: Path, detections: Sequence[_Detection], *, image_id: int, size: tuple[int, int]) -> ImageInstances:
    masks, boxes = [], []
    for one in detections:
        try:
            mask = to_mask(one.segmentation, size)
        except PointRendError as error:
            raise PointRendError(f"{path}: detection {one.number}: {error}") from error
        boxes.append(extent(mask) if one.box is None else one.box)
        masks.append(mask_to_rle(mask))
    return ImageInstances(
        image_id=image_id,
        size=size,
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        classes=np.array([one.label for one in detections], np.int64),
        masks=masks,
        scores=np.array([one.score for one in detections], np.float64),
    )
