"""mIoU near boundaries: the trimap curve, by distance to the true boundary."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

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

    def update(self, prediction: np.ndarray, truth: np.ndarray, bands: np.ndarray) -> None:
        """Add the predicted and the true labels (H, W) of an image, and the `boundary_bands` of the truth."""
        near = (bands < len(WIDTHS)) & (truth != self.ignore_index)
        pairs = self.num_classes * truth[near].astype(np.int64) + prediction[near]
        size = self.num_classes**2
        counts = np.bincount(size * bands[near].astype(np.int64) + pairs, minlength=len(WIDTHS) * size)
        # A wider band has all pixels of the narrower ones.
        self.confusion += counts.reshape(self.confusion.shape).cumsum(axis=0)

    def miou(self) -> list[float]:
        """Return the mIoU in percent of each of `WIDTHS`; nan for a band without pixels."""
        return [mean_iou(confusion) for confusion in self.confusion]


def boundary_bands(truth: np.ndarray, *, ignore_index: int = 255) -> np.ndarray:
    """Return (H, W) uint8: the number of the narrowest of `WIDTHS` within which another class is, or their number.

    Distances are Chebyshev distances in pixels. The image's border is no boundary, nor is that of ignored pixels.
    """
    labels = torch.from_numpy(truth.astype(np.float32))
    ignored = labels == ignore_index
    # Among ignored pixels the largest and the smallest class nearby decide, so they make no boundary themselves.
    largest, negated_smallest = labels.masked_fill(ignored, -1), (-labels).masked_fill(ignored, -torch.inf)
    bands = torch.full(labels.shape, len(WIDTHS), dtype=torch.uint8)
    reached = 0
    for index, width in enumerate(WIDTHS):
        # A window of a larger radius is a window of windows.
        largest, negated_smallest = (_largest_nearby(m, width - reached) for m in (largest, negated_smallest))
        reached = width
        bands[(largest > -negated_smallest) & (bands == len(WIDTHS))] = index
    found: np.ndarray = bands.numpy()
    return found


def _largest_nearby(values: torch.Tensor, radius: int) -> torch.Tensor:
    """Return the maximum of (H, W) over the square of a radius around each pixel."""
    result = values[None, None]
    for padding in ((radius, 0), (0, radius)):
        size = (2 * padding[0] + 1, 2 * padding[1] + 1)
        result = F.max_pool2d(result, size, stride=1, padding=padding)
    return result[0, 0]


def mean_iou(confusion: np.ndarray) -> float:
    """Return the mean IoU in percent over the classes that occur in a confusion (C, C); nan if none does."""
    correct = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - correct
    occurs = union > 0
    return 100 * float((correct[occurs] / union[occurs]).mean()) if occurs.any() else math.nan
