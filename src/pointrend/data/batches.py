"""Batches for the losses: images of one size with their labels or instances.

Shapes: N images, R instances, K layers, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import default_collate

from pointrend.data.samples import InstanceMasks


class SemanticBatch(NamedTuple):
    """A batch of images of one size with their labels."""

    images: Tensor
    """(N, 3, H, W) float32, normalised."""
    labels: Tensor
    """(N, H, W) int64, train ids or `IGNORE`."""

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> SemanticBatch:
        """Return the batch on a device."""
        return SemanticBatch(self.images.to(device, memory_format=memory_format), self.labels.to(device))


class InstanceTargets(NamedTuple):
    """The instances of one image, crowds left out."""

    boxes: Tensor
    """(R, 4) int64, xyxy in pixels: outer edges of the mask's outermost pixels. Integers, because half-precision
    strategies round floating-point inputs of a module, which makes small boxes vanish."""
    classes: Tensor
    """(R,) int64."""
    ids: Tensor
    """(K, H, W) int32: masks as layers of ids; masks that overlap are in different layers."""
    instance_ids: Tensor
    """(R,) int32: the id of each instance in its layer."""
    layers: Tensor
    """(R,) int64: the layer of each instance."""


class InstanceBatch(NamedTuple):
    """A batch of images of one size with their instances."""

    images: Tensor
    """(N, 3, H, W) float32, normalised, padded with 0 at the right and bottom."""
    valid: tuple[tuple[int, int], ...]
    """(h, w) of each image without padding."""
    targets: tuple[InstanceTargets, ...]
    """The instances of each image."""

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> InstanceBatch:
        """Return the batch on a device."""
        targets = tuple(InstanceTargets(*(tensor.to(device) for tensor in target)) for target in self.targets)
        return InstanceBatch(self.images.to(device, memory_format=memory_format), self.valid, targets)


def semantic_batch(samples: Sequence[tuple[Tensor, Tensor]]) -> SemanticBatch:
    """Stack images and labels of one size."""
    images, labels = default_collate(list(samples))
    return SemanticBatch(images, labels)


def instance_batch(samples: Sequence[tuple[Tensor, InstanceTargets]], *, multiple: int = 32) -> InstanceBatch:
    """Pad images (3, h, w) and their ids at the right and bottom to the largest, rounded up to a multiple."""
    height, width = (-(-max(image.shape[axis] for image, _ in samples) // multiple) * multiple for axis in (1, 2))

    def padded(maps: Tensor) -> Tensor:
        return pad(maps, (0, width - maps.shape[2], 0, height - maps.shape[1]))

    return InstanceBatch(
        images=torch.stack([padded(image) for image, _ in samples]),
        valid=tuple((image.shape[1], image.shape[2]) for image, _ in samples),
        targets=tuple(target._replace(ids=padded(target.ids)) for _, target in samples),
    )


def targets_of(masks: InstanceMasks) -> InstanceTargets:
    """Convert instances to training targets; crowds and instances without pixels are dropped."""
    boxes = torch.zeros(len(masks.instance_ids), 4, dtype=torch.int64)
    seen = torch.zeros(len(masks.instance_ids), dtype=torch.bool)
    extents = [_extents(ids.numpy()) for ids in masks.ids]
    for index, (layer, value) in enumerate(zip(masks.layers.tolist(), masks.instance_ids.tolist(), strict=True)):
        if value in extents[layer]:
            boxes[index], seen[index] = torch.tensor(extents[layer][value]), True
    kept = seen & ~masks.crowd
    return InstanceTargets(
        boxes=boxes[kept],
        classes=masks.classes[kept],
        ids=masks.ids.as_subclass(Tensor).contiguous(),
        instance_ids=masks.instance_ids[kept],
        layers=masks.layers[kept],
    )


def _extents(ids: np.ndarray) -> dict[int, tuple[int, int, int, int]]:
    """Return the box (xyxy) of each id but 0 in a layer of ids (H, W)."""
    rows, columns = np.nonzero(ids)
    values = ids[rows, columns]
    order = np.argsort(values, kind="stable")
    values, rows, columns = values[order], rows[order], columns[order]
    starts = np.flatnonzero(np.diff(values, prepend=0))
    if len(starts) == 0:
        return {}
    lefts, tops = np.minimum.reduceat(columns, starts), np.minimum.reduceat(rows, starts)
    rights, bottoms = np.maximum.reduceat(columns, starts) + 1, np.maximum.reduceat(rows, starts) + 1
    boxes = zip(lefts.tolist(), tops.tolist(), rights.tolist(), bottoms.tolist(), strict=True)
    return dict(zip(values[starts].tolist(), boxes, strict=True))
