"""mIoU near boundaries: the trimap curve, by distance to the true boundary."""

from __future__ import annotations

import math

import numpy as np
import torch

WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Distances to the true boundary, in pixels: a band has all pixels at most so far from a pixel of another label."""


class TrimapCounts:
    """The confusion of label maps in bands around the true boundaries, of all images that are added.

    Args:
        num_classes: C.
        ignore_index: the label of true pixels that count nowhere; a boundary of them is none.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.confusion = np.zeros((len(WIDTHS), num_classes, num_classes), np.int64)
        """(bands, C, C), pixels by band, true and predicted class."""

    def update(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Add the predicted and the true labels (H, W) of an image."""
        counted = truth != self.ignore_index
        pairs = self.num_classes * truth.astype(np.int64) + prediction
        for index, width in enumerate(WIDTHS):
            inside = true_band(truth, width, ignore_index=self.ignore_index) & counted
            counts = np.bincount(pairs[inside], minlength=self.num_classes**2)
            self.confusion[index] += counts.reshape(self.num_classes, self.num_classes)

    def miou(self) -> list[float]:
        """Return the mIoU in percent of each of `WIDTHS`; nan for a band without pixels."""
        return [mean_iou(confusion) for confusion in self.confusion]


def true_band(truth: np.ndarray, width: int, *, ignore_index: int = 255) -> np.ndarray:
    """Return (H, W) bool: pixels at most `width` from a pixel of another class; the image's border is no boundary."""
    labels = torch.from_numpy(truth.astype(np.int32))
    # Where labels are ignored, the smallest and the largest class nearby decide, so they make no boundary.
    ignored = labels == ignore_index
    low, high = labels.masked_fill(ignored, 2**30), labels.masked_fill(ignored, -1)
    lowest = -_largest_nearby(-low, width)
    band: np.ndarray = (_largest_nearby(high, width) > lowest).numpy()
    return band


def _largest_nearby(labels: torch.Tensor, width: int) -> torch.Tensor:
    largest = labels.double()[None, None]
    for dim in ((width, 0), (0, width)):
        size = (2 * dim[0] + 1, 2 * dim[1] + 1)
        largest = torch.nn.functional.max_pool2d(largest, size, stride=1, padding=dim)
    return largest[0, 0]


def mean_iou(confusion: np.ndarray) -> float:
    """Return the mean IoU in percent over the classes that occur in a confusion (C, C); nan if none does."""
    correct = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - correct
    occurs = union > 0
    return 100 * float((correct[occurs] / union[occurs]).mean()) if occurs.any() else math.nan
