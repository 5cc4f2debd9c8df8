"""Conversion of predictions and annotations to the input of metrics."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pointrend.data import InstanceTruth
from pointrend.metrics.instances import ImageInstances
from pointrend.results import InstanceResult, SemanticResult


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
