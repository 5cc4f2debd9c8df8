"""Scores of classes that do not exclude each other: each class against all else."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from pointrend.metrics.base import MetricSettings, SplitMetric
from pointrend.metrics.boundary import band_counts, boundary_width

IGNORE = 255


class MultiLabelMetric(SplitMetric):
    """IoU and Boundary IoU of each class against all else, of sums over all images; means over classes that occur.

    A class counts as the only one of a pixel where the ground truth is a label map.
    """

    name = "multi-label"
    headline: ClassVar = {"miou": "mIoU", "boundary_iou": "Boundary IoU"}
    per_class: ClassVar = {"iou": "IoU", "boundary_iou": "Boundary IoU"}
    default_boundary_ratio = 0.005

    counts: Tensor
    """int64 (C, 3): pixels of the class in both, in the prediction, in the ground truth."""
    bands: Tensor
    """int64 (C, 3): the same in boundary bands."""

    def __init__(self, settings: MetricSettings) -> None:
        super().__init__(settings)
        for name in ("counts", "bands"):
            self.add_state(name, torch.zeros(self.num_classes, 3, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Add one image.

        Args:
            prediction: (H, W), integer, whose bit c says whether the pixel is of class c.
            truth: label map (H, W), values under C or 255, which is not counted.
        """
        predicted, true = (labels.detach().to(self.counts.device, torch.int64) for labels in (prediction, truth))
        if predicted.shape != true.shape:
            raise ValueError(
                f"prediction and truth must have the same size, got {tuple(predicted.shape)} and {tuple(true.shape)}"
            )
        ignored = true == IGNORE
        width = boundary_width((true.shape[0], true.shape[1]), self.boundary_ratio)
        counts, bands = [], []
        for index in range(self.num_classes):
            found, wanted = (predicted >> index & 1 == 1) & ~ignored, true == index
            counts.append(torch.stack([(found & wanted).sum(), found.sum(), wanted.sum()]))
            maps = (one.to(torch.uint8).masked_fill(ignored, 2) for one in (found, wanted))
            bands.append(band_counts(*maps, num_classes=2, width=width)[:, 1])
        self.counts = self.counts + torch.stack(counts)
        self.bands = self.bands + torch.stack(bands)

    def compute(self) -> dict[str, float]:
        """Compute the numbers of all added images."""
        columns = {"iou": _ious(self.counts), "boundary_iou": _ious(self.bands)}
        numbers = {"miou": _mean(columns["iou"]), "boundary_iou": _mean(columns["boundary_iou"])}
        for name, values in columns.items():
            numbers |= {f"{name}/{label}": value for label, value in zip(self.class_names, values, strict=True)}
        return numbers


def _ious(counts: Tensor) -> list[float]:
    """Return IoUs in percent of counts (C, 3); nan where a class is in neither."""
    both, found, wanted = counts.double().unbind(1)
    union = found + wanted - both
    values: list[float] = torch.where(union > 0, 100 * both / union, torch.nan).tolist()
    return values


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
