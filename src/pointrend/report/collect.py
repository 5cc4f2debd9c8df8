"""What a report needs of every image, collected while a split is evaluated."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pointrend.data import Sample
from pointrend.data.classes import ClassInfo
from pointrend.report.trimap import WIDTHS, TrimapCounts, boundary_bands, mean_iou
from pointrend.scoring import LabelMaps

SHOWN = 12
"""The number of images that gain most, and of those that lose most, that are shown."""
WINDOW_RATIO = 0.2
"""Ratio of the zoom's edge to the image's shortest edge."""
SMALLEST_WINDOW = 48
"""Pixels."""
IGNORE = 255
NEAR = WIDTHS.index(8)
"""The band of pixels, around true boundaries, among which a zoom is chosen."""


@dataclass(frozen=True)
class Change:
    """An image that rendering changed, with the window in which most of that change happened."""

    name: str
    gain: float
    """mIoU of the image after rendering minus before, in points of percent."""
    window: tuple[int, int, int, int]
    """(left, top, right, bottom) in pixels of the image."""
    photo: np.ndarray
    """(h, w, 3) uint8, the window of the image."""
    truth: np.ndarray
    """(h, w) labels of the window."""
    coarse: np.ndarray
    rendered: np.ndarray


@dataclass(frozen=True)
class Findings:
    """What was collected of a split."""

    classes: tuple[ClassInfo, ...]
    trimap: dict[str, TrimapCounts]
    """By stage: before and after rendering."""
    confusion: np.ndarray
    """(C, C) pixels by true and rendered class."""
    gains: tuple[Change, ...]
    """The images that gain most, the best first."""
    losses: tuple[Change, ...]
    """The images that lose most, the worst first."""
    better: int
    """The number of images with a higher mIoU after rendering."""
    worse: int
    images: int


class Collector:
    """Collects, image by image, what a report shows of a split.

    Args:
        maps: of the model's task.
        classes: of the model.
    """

    def __init__(self, maps: LabelMaps, classes: tuple[ClassInfo, ...]) -> None:
        self._maps = maps
        self._classes = maps.classes(classes)
        self._trimap: dict[str, TrimapCounts] = {}
        self._confusion = np.zeros((len(self._classes),) * 2, np.int64)
        self._gains: list[tuple[float, int, Change]] = []
        self._losses: list[tuple[float, int, Change]] = []
        self._number = itertools.count()
        self._better = self._worse = self._images = 0

    def observe(self, sample: Sample, results: Mapping[str, Any]) -> None:
        """Add an image with its results by stage, the first before rendering and the last after."""
        stages = {stage: self._maps.of_result(result) for stage, result in results.items()}
        (first, coarse), *_, (last, rendered) = stages.items()
        photo = next(iter(results.values())).image
        truth = self._maps.of_truth(sample.annotations.truth(coarse.shape), coarse.shape)
        bands = boundary_bands(truth)
        for stage, labels in ((first, coarse), (last, rendered)):
            self._trimap.setdefault(stage, TrimapCounts(len(self._classes))).update(labels, truth, bands)
        before, after = (confusion_of(labels, truth, len(self._classes)) for labels in (coarse, rendered))
        self._confusion += after
        gain = mean_iou(after) - mean_iou(before)
        self._images += 1
        self._better += gain > 0
        self._worse += gain < 0
        if gain == 0 or gain != gain:
            return
        kept, key = (self._gains, gain) if gain > 0 else (self._losses, -gain)
        if len(kept) == SHOWN and key <= kept[0][0]:
            return
        near = bands <= NEAR
        change = _change(sample.image.name, gain, photo, truth, coarse, rendered, near)
        entry = (key, next(self._number), change)
        (heapq.heappushpop if len(kept) == SHOWN else heapq.heappush)(kept, entry)

    def findings(self) -> Findings:
        """Return what was collected."""
        gains, losses = (
            tuple(change for *_, change in sorted(kept, key=lambda entry: (-entry[0], entry[1])))
            for kept in (self._gains, self._losses)
        )
        return Findings(
            classes=self._classes,
            trimap=self._trimap,
            confusion=self._confusion,
            gains=gains,
            losses=losses,
            better=self._better,
            worse=self._worse,
            images=self._images,
        )


def confusion_of(labels: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Return (C, C), the pixels of label maps (H, W) by true and predicted class; ignored ones are left out."""
    counted = truth != IGNORE
    pairs = num_classes * truth[counted].astype(np.int64) + labels[counted]
    confusion: np.ndarray = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    return confusion


def _change(
    name: str,
    gain: float,
    photo: np.ndarray,
    truth: np.ndarray,
    coarse: np.ndarray,
    rendered: np.ndarray,
    near: np.ndarray,
) -> Change:
    """Cut out the window in which rendering made most pixels `near` a boundary right, or wrong if the image lost."""
    right_before, right_after = (labels == truth for labels in (coarse, rendered))
    wanted = (right_after & ~right_before) if gain > 0 else (right_before & ~right_after)
    wanted &= truth != IGNORE
    if (wanted & near).any():
        wanted &= near
    left, top, right, bottom = fullest_window(wanted)
    part = np.s_[top:bottom, left:right]
    return Change(
        name=name,
        gain=gain,
        window=(left, top, right, bottom),
        photo=photo[part].copy(),
        truth=truth[part].copy(),
        coarse=coarse[part].copy(),
        rendered=rendered[part].copy(),
    )


def fullest_window(marked: np.ndarray) -> tuple[int, int, int, int]:
    """Return the square window (left, top, right, bottom) with the most marked pixels of (H, W) bool."""
    height, width = marked.shape
    edge = max(SMALLEST_WINDOW, round(WINDOW_RATIO * min(height, width)))
    box = (min(edge, height), min(edge, width))
    sums = F.avg_pool2d(torch.from_numpy(marked).double()[None, None], box, stride=1)[0, 0]
    # Of equally full windows the middle one, which shows what is around the change.
    fullest = (sums >= sums.max() - 0.5 / (box[0] * box[1])).nonzero()
    top, left = fullest[len(fullest) // 2].tolist()
    return left, top, left + box[1], top + box[0]
