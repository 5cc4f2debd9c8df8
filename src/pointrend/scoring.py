"""Conversion of predictions and annotations to the input of metrics."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask
from torch import Tensor

from pointrend.data import InstanceTruth
from pointrend.data.classes import ClassInfo
from pointrend.metrics.instances import ImageInstances
from pointrend.results import InstanceResult, SemanticResult
from pointrend.spec import SHOWN_SCORE


def predicted_labels(result: SemanticResult, image_id: int) -> Tensor:
    """Return the label map (H, W) of a result."""
    return torch.from_numpy(result.labels)


def true_labels(labels: np.ndarray, image_id: int, size: tuple[int, int]) -> Tensor:
    """Return the annotated label map (H, W) of an image."""
    return torch.from_numpy(labels)


def predicted_instances(result: InstanceResult, image_id: int) -> ImageInstances:
    """Return the instances of a result."""
    height, width = result.image.shape[:2]
    return ImageInstances(
        image_id=image_id,
        size=(height, width),
        boxes=result.boxes,
        classes=result.labels,
        masks=[result.masks.rle(index) for index in range(len(result))],
        scores=result.scores,
    )


def true_instances(truth: InstanceTruth, image_id: int, size: tuple[int, int]) -> ImageInstances:
    """Return the annotated instances of an image of `size` (H, W)."""
    return ImageInstances(image_id=image_id, size=size, **vars(truth))


@dataclass(frozen=True)
class LabelMaps:
    """Label maps of results and of annotations, by which reports compare them pixel by pixel."""

    of_result: Callable[[Any], np.ndarray]
    """Converts a result to a label map (H, W)."""
    of_truth: Callable[[Any, tuple[int, int]], np.ndarray]
    """Converts an image's annotations and its size to a label map (H, W); 255 is ignored."""
    classes: Callable[[tuple[ClassInfo, ...]], tuple[ClassInfo, ...]]
    """Returns the classes of the label maps from those of the model."""


def _covered(result: InstanceResult) -> np.ndarray:
    """Return (H, W) uint8: 1 where an object with a score above 0.5 is."""
    return result[result.scores > SHOWN_SCORE].label_map().astype(np.uint8)


def _truly_covered(truth: InstanceTruth, size: tuple[int, int]) -> np.ndarray:
    """Return (H, W) uint8: 1 where an annotated object is, 255 where a crowd is."""
    covered = np.zeros(size, np.uint8)
    for value, chosen in ((255, truth.crowd), (1, ~truth.crowd)):
        for rle in itertools.compress(truth.masks, chosen):
            covered[mask.decode(rle).astype(bool)] = value
    return covered


LABELS = LabelMaps(
    of_result=lambda result: result.labels, of_truth=lambda truth, size: truth, classes=lambda classes: classes
)
COVERED_PIXELS = LabelMaps(
    of_result=_covered,
    of_truth=_truly_covered,
    classes=lambda classes: (ClassInfo("background", (0, 0, 0)), ClassInfo("object", (230, 80, 60))),
)
"""All objects together against the background."""
