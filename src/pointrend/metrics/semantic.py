"""Scores of semantic segmentation on a split: mIoU, accuracies, Boundary IoU and boundary F."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from pointrend.errors import PointRendError
from pointrend.metrics.base import MetricSettings, SplitMetric
from pointrend.metrics.boundary import band_counts, boundary_width, contour_counts


class SemanticMetric(SplitMetric):
    """mIoU, accuracies, Boundary IoU and boundary F of label maps, as means over the classes that occur.

    Every score is a ratio of sums over all images, not a mean of ratios of single images. Pixels whose ground truth is
    `ignore_index` are not counted: both maps get the same value there before boundaries are found, so a prediction
    that is right everywhere else scores 100.

    The numbers miou, mean_accuracy, pixel_accuracy, boundary_iou and boundary_f are of all classes; iou/CLASS,
    accuracy/CLASS, boundary_iou/CLASS and boundary_f/CLASS are of one class, and nan if it does not occur (accuracy: in
    the ground truth).

    Args:
        settings: with at least 2 classes (a binary model has background and foreground).
        ignore_index: the ground truth's label of pixels that are not counted.
    """

    name = "semantic"
    headline: ClassVar = {
        "miou": "mIoU",
        "boundary_iou": "Boundary IoU",
        "boundary_f": "Boundary F",
        "mean_accuracy": "mean acc",
        "pixel_accuracy": "pixel acc",
    }
    # Boundary F is left out so that the table fits a terminal of 80 columns.
    per_class: ClassVar = {"iou": "IoU", "boundary_iou": "Boundary IoU"}
    default_boundary_ratio = 0.005

    confusion: Tensor
    """int64 (C, C), pixels by ground truth and prediction."""
    bands: Tensor
    """int64 (3, C) as `band_counts` returns them."""
    contours: Tensor
    """int64 (4, C) as `contour_counts` returns them."""

    def __init__(self, settings: MetricSettings, ignore_index: int = 255) -> None:
        super().__init__(settings)
        classes = self.num_classes
        if classes < 2:
            raise PointRendError(f"class_names must be at least 2 (background and foreground), got {classes}")
        self.ignore_index = ignore_index
        for name, rows in (("confusion", classes), ("bands", 3), ("contours", 4)):
            self.add_state(name, torch.zeros(rows, classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Add one image.

        Args:
            prediction: integer label map (H, W), values under C wherever the ground truth is not ignored.
            truth: integer label map (H, W), values under C or `ignore_index`.

        Raises:
            ValueError: not label maps, sizes differ, or a value is out of range. Nothing is counted then.
        """
        _check_maps(prediction, truth)
        classes = self.num_classes
        # torch's narrower unsigned types lack most operations.
        predicted, true = (labels.detach().to(self.confusion.device, torch.int64) for labels in (prediction, truth))
        ignored = true == self.ignore_index
        self._check_values("prediction", predicted[~ignored])
        self._check_values("target", true[~ignored])
        pairs = classes * true[~ignored] + predicted[~ignored]
        confusion = torch.bincount(pairs, minlength=classes**2).view(classes, classes)

        # One byte a pixel makes the boundary passes several times faster.
        dtype = torch.uint8 if classes <= 255 else torch.int32
        predicted, true = (labels.masked_fill(ignored, classes).to(dtype) for labels in (predicted, true))
        width = boundary_width((true.shape[0], true.shape[1]), self.boundary_ratio)
        bands = band_counts(predicted, true, num_classes=classes, width=width)
        contours = contour_counts(predicted, true, num_classes=classes, width=width)
        # Not in place: `sync` and `metric_state` return these tensors to callers.
        self.confusion = self.confusion + confusion
        self.bands = self.bands + bands
        self.contours = self.contours + contours

    def compute(self) -> dict[str, float]:
        """Compute the numbers of all added images."""
        confusion, bands, contours = self.confusion.double(), self.bands.double(), self.contours.double()
        correct, true, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        both, band_predicted, band_true = bands
        of_classes = {
            "iou": _ratio(correct, true + predicted - correct),
            "accuracy": _ratio(correct, true),
            "boundary_iou": _ratio(both, band_predicted + band_true - both),
            "boundary_f": _f_score(*contours),
        }
        columns = {name: (100 * scores).tolist() for name, scores in of_classes.items()}
        numbers = {
            "miou": _mean(columns["iou"]),
            "mean_accuracy": _mean(columns["accuracy"]),
            "pixel_accuracy": 100 * _ratio(correct.sum(), confusion.sum()).item(),
            "boundary_iou": _mean(columns["boundary_iou"]),
            "boundary_f": _mean(columns["boundary_f"]),
        }
        for name, values in columns.items():
            numbers |= {f"{name}/{label}": value for label, value in zip(self.class_names, values, strict=True)}
        return numbers

    def _check_values(self, name: str, values: Tensor) -> None:
        if values.numel() == 0:
            return
        low, high = (int(value) for value in values.aminmax())
        if low < 0 or high >= self.num_classes:
            also = f" or {self.ignore_index} (ignored)" if name == "target" else ""
            raise PointRendError(
                f"{name} must hold classes 0 to {self.num_classes - 1}{also}, "
                f"got {low if low < 0 else high}: do the model and the data have the same classes?"
            )


def _check_maps(prediction: Tensor, target: Tensor) -> None:
    for name, labels in (("prediction", prediction), ("target", target)):
        if labels.is_floating_point() or labels.is_complex():
            raise ValueError(f"{name} must hold integer class indices, got {labels.dtype}: take the argmax")
        if labels.dim() != 2 or labels.numel() == 0:
            raise ValueError(f"{name} must be one image (H, W), got {tuple(labels.shape)}")
    if prediction.shape != target.shape:
        sizes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
        raise ValueError(f"prediction and target must have the same size, got {sizes}")


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide part by whole; nan where the whole is 0."""
    return torch.where(whole > 0, part / whole, torch.nan)


def _f_score(predicted: Tensor, predicted_near: Tensor, true: Tensor, true_near: Tensor) -> Tensor:
    """Compute the harmonic mean of precision and recall; 0 without matches, nan if neither map has the class."""
    precision = predicted_near / predicted.clamp(min=1)
    recall = true_near / true.clamp(min=1)
    score = 2 * precision * recall / (precision + recall)
    score = torch.where(precision + recall > 0, score, 0.0)
    return torch.where(predicted + true > 0, score, torch.nan)


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
