"""Scores of a file of results in COCO's format, whatever made it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pointrend.data.images import image_size
from pointrend.data.instance_layouts import InstanceSet
from pointrend.data.segmentations import mask_to_rle, to_mask
from pointrend.evaluate.instance import InstanceEvaluation, InstanceScoring
from pointrend.evaluate.truth import extent, ground_truth
from pointrend.metrics.instances import ImageInstances

ROW = "results"


def evaluate_results(
    path: Path,
    samples: InstanceSet,
    *,
    max_detections: int = 100,
    limit: int | None = None,
    boundary_share: float = 0.02,
    progress: Callable[[int, int], None] | None = None,
) -> InstanceEvaluation:
    """Score the instances in a results file against a split.

    Args:
        path: a JSON list of `{"image_id", "category_id", "score", "segmentation"}`, also `"bbox"` (x, y, width,
            height; without it the mask's). Segmentations are polygons or run lengths; ids are the data set's own.
        samples: the split.
        max_detections: how many detections of an image count, COCO: of each class in an image.
        limit: only the first so many images.
        boundary_share: the width of the boundary bands as a share of the image's diagonal.
        progress: called with the number of images done and their total.

    Raises:
        ValueError: no such file, or results of images or categories that are not in the split; one line.
    """
    of_image = _read(path, samples)
    scoring = InstanceScoring(samples, max_detections=max_detections, boundary_share=boundary_share)
    total = len(samples.samples) if limit is None else min(limit, len(samples.samples))
    for index, sample in enumerate(samples.samples[:total]):
        size = image_size(sample.image)
        found = _instances(path, of_image[sample.image_id], samples, image_id=index, size=size)
        scoring.update(found, ground_truth(sample, index, size), sample)
        if progress is not None:
            progress(index + 1, total)
    return InstanceEvaluation(
        rows={ROW: scoring.compute()},
        class_names=tuple(c.name for c in samples.classes),
        num_images=total,
        max_detections=max_detections,
    )


def _read(path: Path, samples: InstanceSet) -> dict[int | str, list[Mapping[str, Any]]]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: expected COCO results, a JSON list of detections ({error})") from error
    of_image: dict[int | str, list[Mapping[str, Any]]] = {sample.image_id: [] for sample in samples.samples}
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected COCO results, a JSON list of detections, got {type(content).__name__}")
    for index, entry in enumerate(content):
        missing = {"image_id", "category_id", "score", "segmentation"} - set(entry if isinstance(entry, dict) else ())
        if missing:
            raise ValueError(f"{path}: detection {index} has no {min(missing)!r}")
        if not isinstance(entry["image_id"], (int, str)) or entry["image_id"] not in of_image:
            raise ValueError(f"{path}: detection {index} is of image {entry['image_id']!r}, which is not in the data")
        if entry["category_id"] not in samples.category_ids:
            raise ValueError(
                f"{path}: detection {index} is of category {entry['category_id']!r}, which is not in the data"
            )
        of_image[entry["image_id"]].append(entry)
    return of_image


def _instances(
    path: Path, entries: Sequence[Mapping[str, Any]], samples: InstanceSet, *, image_id: int, size: tuple[int, int]
) -> ImageInstances:
    masks, boxes = [], []
    for entry in entries:
        try:
            mask = to_mask(entry["segmentation"], size)
            box: tuple[float, ...] = extent(mask)
            if "bbox" in entry:
                left, top, width, height = (float(value) for value in entry["bbox"])
                box = (left, top, left + width, top + height)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: a detection of image {entry['image_id']}: {error}") from error
        masks.append(mask_to_rle(mask))
        boxes.append(box)
    try:
        scores = np.array([float(entry["score"]) for entry in entries], np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: a score of image {entries[0]['image_id']} is no number") from error
    return ImageInstances(
        image_id=image_id,
        size=size,
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        classes=np.array([samples.category_ids.index(entry["category_id"]) for entry in entries], np.int64),
        masks=masks,
        scores=scores,
    )
