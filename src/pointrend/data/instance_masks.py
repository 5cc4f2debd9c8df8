"""Layers of ids from masks, and what evaluation needs of them.

Shapes: R instances, K layers, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchvision import tv_tensors

from pointrend.data.samples import InstanceMasks, InstanceTruth
from pointrend.data.segmentations import mask_to_rle


def pack(
    masks: Sequence[np.ndarray], classes: Sequence[int], crowd: Sequence[bool], size: tuple[int, int]
) -> InstanceMasks:
    """Pack masks (H, W) bool into as few layers as first fit needs, so that masks of a layer do not overlap.

    Masks without pixels are dropped.
    """
    layers: list[np.ndarray] = []
    layer_of: dict[int, int] = {}
    for index, mask in enumerate(masks):
        if not mask.any():
            continue
        free = next((k for k, layer in enumerate(layers) if not layer[mask].any()), len(layers))
        if free == len(layers):
            layers.append(np.zeros(size, np.int32))
        layers[free][mask] = index + 1
        layer_of[index] = free
    return _instance_masks(
        np.stack(layers) if layers else np.zeros((0, *size), np.int32),
        [index + 1 for index in layer_of],
        list(layer_of.values()),
        [classes[index] for index in layer_of],
        [crowd[index] for index in layer_of],
    )


def one_layer(ids: np.ndarray, numbers: list[int], classes: list[int], crowd: list[bool]) -> InstanceMasks:
    """Return the instances `numbers` of an id image (H, W)."""
    return _instance_masks(ids[None], numbers, [0] * len(numbers), classes, crowd)


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box (xyxy) around the pixels of a mask (H, W) bool; zeros if it has no pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def measured(instances: InstanceMasks) -> InstanceTruth:
    """Return instances for evaluation; boxes are the extents of the masks."""
    masks = [instances.mask(index) for index in range(len(instances.instance_ids))]
    return InstanceTruth(
        boxes=np.array([extent(mask) for mask in masks], np.float32).reshape(-1, 4),
        classes=instances.classes.numpy(),
        masks=[mask_to_rle(mask) for mask in masks],
        crowd=instances.crowd.numpy(),
    )


def in_parts(mask: np.ndarray) -> bool:
    """Return whether a mask (H, W) bool surely has several separate parts.

    It has at least as many as its Euler number (parts less holes), which the 2x2 windows tell (Gray, 1971).
    """
    padded = np.pad(mask, 1).astype(np.int8)
    corners = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    total = sum(corners, np.zeros_like(corners[0]))
    diagonal = (total == 2) & (corners[0] == corners[3])
    euler = (int((total == 1).sum()) - int((total == 3).sum()) - 2 * int(diagonal.sum())) / 4
    return euler >= 2


def _instance_masks(
    ids: np.ndarray, numbers: list[int], layers: list[int], classes: list[int], crowd: list[bool]
) -> InstanceMasks:
    return InstanceMasks(
        ids=tv_tensors.Mask(torch.from_numpy(ids)),
        instance_ids=torch.tensor(numbers, dtype=torch.int32),
        layers=torch.tensor(layers, dtype=torch.int64),
        classes=torch.tensor(classes, dtype=torch.int64),
        crowd=torch.tensor(crowd, dtype=torch.bool),
    )
