"""Scores of semantic segmentation over a data set: mIoU, accuracies, Boundary IoU and boundary F."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pointrend.metrics.boundary import band_counts, boundary_width, contour_counts

if TYPE_CHECKING:
    from torchmetrics.classification import MulticlassConfusionMatrix


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class in percent; nan where the class does not occur (accuracy: in the targets)."""

    iou: float
    accuracy: float
    boundary_iou: float
    boundary_f: float


@dataclass(frozen=True)
class SemanticScores:
    """Scores over a data set in percent, means over the classes that occur; nan if no pixel was counted."""

    miou: float
    mean_accuracy: float
    pixel_accuracy: float
    boundary_iou: float
    boundary_f: float
    per_class: tuple[ClassScores, ...]

    def to_dict(self, class_names: Sequence[str]) -> dict[str, object]:
        """Scores for JSON, nan as None, `per_class` by name.

        Raises:
            ValueError: `class_names` are not one distinct name a class.
        """
        if len(set(class_names)) != len(self.per_class) or len(class_names) != len(self.per_class):
            raise ValueError(f"expected {len(self.per_class)} distinct class names, got {list(class_names)}")
        means = {key: value for key, value in asdict(self).items() if key != "per_class"}
        named = zip(class_names, self.per_class, strict=True)
        return {**_json(means), "per_class": {name: _json(asdict(scores)) for name, scores in named}}


class SemanticMetrics:
    """Counts over a data set, image by image, and the scores that follow from them.

    Every score is a ratio of sums over all images, not a mean of ratios of single images. Pixels whose target
    is `ignore_index` are not counted, whatever the prediction says there: before boundaries are taken, both
    maps get the same value at these pixels, so a prediction that is right everywhere else scores 100.

    Args:
        num_classes: C, at least 2 (a binary model has background and foreground).
        ignore_index: target value of pixels that are not counted.
        boundary_share: width of the boundary band as a share of each image's diagonal.

    Raises:
        ValueError: an argument is out of range.
        ImportError: torchmetrics is not installed; says how to install it.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, boundary_share: float = 0.005) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2 (background and foreground), got {num_classes}")
        if not 0 < boundary_share < 1:
            raise ValueError(f"boundary_share must be between 0 and 1, got {boundary_share}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.boundary_share = boundary_share
        self._confusion = _confusion_matrix(num_classes)
        self._bands = torch.zeros(3, num_classes, dtype=torch.int64)
        self._contours = torch.zeros(4, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Adds one image.

        Args:
            prediction: integer label map (H, W), values under C wherever the target is not ignored.
            target: integer label map (H, W), values under C or `ignore_index`.

        Raises:
            ValueError: not label maps, sizes differ, or a value is out of range. Nothing is counted then.
        """
        _check_maps(prediction, target)
        # int64 because torch's narrower unsigned types lack most operations.
        predicted, true = prediction.detach().cpu().long(), target.detach().cpu().long()
        ignored = true == self.ignore_index
        counted = ~ignored
        self._check_values("prediction", predicted[counted])
        self._check_values("target", true[counted])
        self._confusion.update(predicted[counted], true[counted])

        # One byte a pixel makes the boundary passes several times faster.
        dtype = torch.uint8 if self.num_classes <= 255 else torch.int32
        predicted = predicted.masked_fill(ignored, self.num_classes).to(dtype)
        true = true.masked_fill(ignored, self.num_classes).to(dtype)
        width = boundary_width((true.shape[0], true.shape[1]), self.boundary_share)
        self._bands += band_counts(predicted, true, num_classes=self.num_classes, width=width)
        self._contours += contour_counts(predicted, true, num_classes=self.num_classes, width=width)

    def compute(self) -> SemanticScores:
        """Scores of everything that was added so far."""
        counts = {name: value.double() for name, value in self.state().items()}
        confusion = counts["confusion"]
        correct, true, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        both, band_predicted, band_true = counts["bands"]
        contour_predicted, predicted_near, contour_true, true_near = counts["contours"]

        iou = _ratio(correct, true + predicted - correct)
        accuracy = _ratio(correct, true)
        boundary_iou = _ratio(both, band_predicted + band_true - both)
        boundary_f = _f_score(contour_predicted, predicted_near, contour_true, true_near)
        columns = [(100 * scores).tolist() for scores in (iou, accuracy, boundary_iou, boundary_f)]
        return SemanticScores(
            miou=_mean(columns[0]),
            mean_accuracy=_mean(columns[1]),
            pixel_accuracy=100 * _ratio(correct.sum(), confusion.sum()).item(),
            boundary_iou=_mean(columns[2]),
            boundary_f=_mean(columns[3]),
            per_class=tuple(ClassScores(*row) for row in zip(*columns, strict=True)),
        )

    def state(self) -> dict[str, Tensor]:
        """Copies of the counts, all int64; those of several processes may be summed.

        `confusion` (C, C), target by prediction; `bands` (3, C) and `contours` (4, C) as `band_counts` and
        `contour_counts` return them.
        """
        # Not the matrix's compute(): that would sum over processes unasked, and only this one of the three.
        counts = {"confusion": self._confusion.confmat, "bands": self._bands, "contours": self._contours}
        return {name: value.clone() for name, value in counts.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Replaces the counts, for instance by `fabric.all_reduce(metrics.state(), reduce_op="sum")`.

        Raises:
            ValueError: `state` is not one of a `SemanticMetrics` with as many classes.
        """
        own = self.state()
        expected = {name: tuple(value.shape) for name, value in own.items()}
        got = {name: tuple(value.shape) for name, value in state.items()}
        if got != expected:
            raise ValueError(f"metrics state must have shapes {expected}, got {got}")
        counts = {name: state[name].detach().to(own[name], copy=True) for name in own}
        self._confusion.confmat = counts["confusion"]
        self._bands, self._contours = counts["bands"], counts["contours"]

    def add(self, state: Mapping[str, Tensor]) -> None:
        """Adds the counts of another process. Raises as `load` does, and nothing is added then."""
        own = self.state()
        self.load(state)
        self._confusion.confmat += own["confusion"]
        self._bands += own["bands"]
        self._contours += own["contours"]

    def _check_values(self, name: str, values: Tensor) -> None:
        if values.numel() == 0:
            return
        low, high = (int(value) for value in values.aminmax())
        if low < 0 or high >= self.num_classes:
            also = f" or {self.ignore_index} (ignored)" if name == "target" else ""
            raise ValueError(
                f"{name} must hold classes 0 to {self.num_classes - 1}{also}, "
                f"got {low if low < 0 else high}: do the model and the data have the same classes?"
            )


def _confusion_matrix(num_classes: int) -> MulticlassConfusionMatrix:
    try:
        from torchmetrics.classification import MulticlassConfusionMatrix
    except ImportError as error:
        raise ImportError("evaluation needs torchmetrics: pip install 'pointrend[train]'") from error
    return MulticlassConfusionMatrix(num_classes, validate_args=False)  # update() has checked the values


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
    """part / whole, nan where there is nothing to divide."""
    return torch.where(whole > 0, part / whole, torch.nan)


def _f_score(predicted: Tensor, predicted_near: Tensor, true: Tensor, true_near: Tensor) -> Tensor:
    """Harmonic mean of precision and recall; 0 where nothing is matched, nan where no map has the class."""
    precision = predicted_near / predicted.clamp(min=1)
    recall = true_near / true.clamp(min=1)
    score = 2 * precision * recall / (precision + recall)
    score = torch.where(precision + recall > 0, score, 0.0)
    return torch.where(predicted + true > 0, score, torch.nan)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _json(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in scores.items()}
