"""Predict large images in overlapping tiles, and merge the objects found in them.

A model with a fixed scale would see an image beyond its limit at a smaller scale, where it finds fewer objects.

Shapes: R objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torchvision import ops

from pointrend.results import InstanceResult, LazyMasks
from pointrend.spec import TestSpec

OVERLAP = 1 / 8
"""Of a tile's edge. Larger objects may be cut by every tile."""
MIN_TILE = 64
"""Smaller tiles are not worth it: the whole image is predicted at a smaller scale instead."""
_EDGE = 2.0
"""An object that ends this close to a tile's edge within the image, in pixels, may be cut by it."""
_COVERED = 0.5
"""A cut object is dropped if a whole one covers this ratio of its box."""

Tile = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the image."""


def tiles_of(size: tuple[int, int], test: TestSpec) -> list[Tile]:
    """Return the tiles in which an image of `size` (H, W) is predicted; the whole image if the model can see it."""
    length = int(test.longest / test.scale) if test.scale is not None else max(size)
    if length < MIN_TILE:
        return [(0, 0, size[1], size[0])]
    tops, lefts = (_starts(edge, length) for edge in size)
    return [(left, top, min(size[1], left + length), min(size[0], top + length)) for top in tops for left in lefts]


def _starts(edge: int, length: int) -> list[int]:
    """Return evenly spaced starts of windows of `length` that cover `edge` pixels and overlap by `OVERLAP`."""
    if edge <= length:
        return [0]
    count = 1 + -(-(edge - length) // max(1, int(length * (1 - OVERLAP))))
    return [round(start) for start in np.linspace(0, edge - length, count).tolist()]


def merged(found: Sequence[InstanceResult], tiles: Sequence[Tile], pixels: np.ndarray, iou: float) -> InstanceResult:
    """Merge the objects of tiles: of those that overlap by `iou` the better stays, but whole ones before cut ones."""
    size = pixels.shape[0], pixels.shape[1]
    boxes = np.concatenate([r.boxes + np.array(t[:2] * 2, np.float32) for r, t in zip(found, tiles, strict=True)])
    scores = np.concatenate([result.scores for result in found])
    labels = np.concatenate([result.labels for result in found])
    cut = np.concatenate([_cut(r.boxes, t, size) for r, t in zip(found, tiles, strict=True)])
    kept = ops.batched_nms(
        torch.from_numpy(boxes), torch.from_numpy(scores + (~cut).astype(np.float32)), torch.from_numpy(labels), iou
    ).numpy()
    covered = _covered(boxes[kept], labels[kept], cut[kept])
    kept = kept[~covered]
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    masks = found[0].masks
    return replace(
        found[0],
        boxes=boxes[kept],
        scores=scores[kept],
        labels=labels[kept],
        masks=LazyMasks(
            np.concatenate([result.masks.probabilities for result in found])[kept],
            boxes[kept],
            size,
            paste=masks.paste,
            threshold=masks.threshold,
        ),
        image=pixels,
        notes=tuple(dict.fromkeys(note for result in found for note in result.notes)),
    )


def _cut(boxes: np.ndarray, tile: Tile, size: tuple[int, int]) -> np.ndarray:
    """Return (R,) bool: whether boxes (R, 4) of a tile end at one of its edges that is not the image's."""
    left, top, right, bottom = tile
    inner = np.array([left > 0, top > 0, right < size[1], bottom < size[0]])
    distance = np.concatenate([boxes[:, :2], np.array([right - left, bottom - top]) - boxes[:, 2:]], axis=1)
    cut: np.ndarray = ((distance <= _EDGE) & inner).any(axis=1)
    return cut


def _covered(boxes: np.ndarray, labels: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Return (R,) bool: whether boxes (R, 4) are cut, and a whole one of their class covers them."""
    covered = np.zeros(len(boxes), bool)
    for index in np.flatnonzero(cut).tolist():
        whole = boxes[~cut & (labels == labels[index])]
        corner = np.minimum(whole[:, 2:], boxes[index, 2:]) - np.maximum(whole[:, :2], boxes[index, :2])
        area = float(np.prod(boxes[index, 2:] - boxes[index, :2]))
        covered[index] = bool((corner.clip(min=0).prod(axis=1) >= _COVERED * area).any())
    return covered
