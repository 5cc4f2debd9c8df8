"""Training samples with instances: what an image shows, as the loss wants it.

Shapes: N images, R instances, K layers, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pointrend.data.images import read_image
from pointrend.data.instance_layouts import InstanceMasks, InstanceSet, read_instances
from pointrend.data.seeding import drawn_from


class InstanceTargets(NamedTuple):
    """The instances of one image, crowds left out."""

    boxes: Tensor
    """(R, 4) int64, xyxy in pixels: edges of the mask's outermost pixels. Integers, because strategies of half
    precision round the floating-point inputs of a module, and a small box is gone then."""
    classes: Tensor
    """(R,) int64."""
    ids: Tensor
    """(K, H, W) int32. Masks as maps of ids, in as many layers as keep those that overlap apart."""
    own: Tensor
    """(R,) int32, each instance's id in its layer."""
    layers: Tensor
    """(R,) int64."""


class InstanceBatch(NamedTuple):
    """Images of one size with what they show."""

    images: Tensor
    """(N, 3, H, W) float32, normalised, padded with 0 at the right and bottom."""
    valid: tuple[tuple[int, int], ...]
    """(h, w) of each image without padding."""
    targets: tuple[InstanceTargets, ...]
    """Of each image."""

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> InstanceBatch:
        """The batch on a device."""
        targets = tuple(InstanceTargets(*(tensor.to(device) for tensor in target)) for target in self.targets)
        return InstanceBatch(self.images.to(device, memory_format=memory_format), self.valid, targets)


@dataclass(frozen=True, eq=False)
class InstancePicture:
    """An image and its instances, on the way to a training sample."""

    pixels: np.ndarray
    """(H, W, 3) uint8 RGB."""
    masks: InstanceMasks


Transform = Callable[[InstancePicture], tuple[Tensor, InstanceTargets]]


class InstanceDataset(Dataset[tuple[Tensor, InstanceTargets]]):
    """Images with their instances, transformed for training.

    An item is asked for by (index, seed); the transform draws from torch's global generator seeded with `seed`, which
    is put back afterwards, so that an augmented sample depends on nothing else.

    Args:
        samples: from `find_instance_samples`.
        transform: from `instance_transform`.
    """

    def __init__(self, samples: InstanceSet, transform: Transform) -> None:
        self.samples = samples
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples.samples)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, InstanceTargets]:
        """Raises ValueError (`ImageError` for unreadable files) with one line that names the file."""
        index, seed = key
        picture = self.load(index)
        with drawn_from(seed):
            return self.transform(picture)

    def load(self, index: int) -> InstancePicture:
        """The image and its instances, before the transform."""
        sample = self.samples.samples[index]
        pixels = read_image(sample.image)
        return InstancePicture(pixels, read_instances(sample, (pixels.shape[0], pixels.shape[1])))


def targets_of(masks: InstanceMasks) -> InstanceTargets:
    """What training sees of instances: crowds, and instances without a pixel left, are dropped."""
    boxes = np.zeros((len(masks.instance_ids), 4), np.int64)
    seen = np.zeros(len(masks.instance_ids), bool)
    for layer, ids in enumerate(masks.ids):
        members = np.flatnonzero(masks.layers == layer)
        found = _extents(ids)
        for index in members:
            box = found.get(int(masks.instance_ids[index]))
            if box is not None:
                boxes[index], seen[index] = box, True
    kept = seen & ~masks.crowd
    return InstanceTargets(
        boxes=torch.from_numpy(boxes[kept]),
        classes=torch.from_numpy(masks.classes[kept].astype(np.int64)),
        ids=torch.from_numpy(np.ascontiguousarray(masks.ids, dtype=np.int32)),
        own=torch.from_numpy(masks.instance_ids[kept].astype(np.int32)),
        layers=torch.from_numpy(masks.layers[kept].astype(np.int64)),
    )


def collate(samples: Sequence[tuple[Tensor, InstanceTargets]], *, multiple: int = 32) -> InstanceBatch:
    """Pad images (3, h, w) at the right and bottom to the largest, rounded up to a multiple; so are the ids."""
    height = _rounded_up(max(image.shape[1] for image, _ in samples), multiple)
    width = _rounded_up(max(image.shape[2] for image, _ in samples), multiple)

    def padded(maps: Tensor) -> Tensor:
        return torch.nn.functional.pad(maps, (0, width - maps.shape[2], 0, height - maps.shape[1]))

    return InstanceBatch(
        images=torch.stack([padded(image) for image, _ in samples]),
        valid=tuple((image.shape[1], image.shape[2]) for image, _ in samples),
        targets=tuple(target._replace(ids=padded(target.ids)) for _, target in samples),
    )


def _extents(ids: np.ndarray) -> dict[int, tuple[int, int, int, int]]:
    """Boxes xyxy of all ids but 0 that occur in a map (H, W)."""
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


def _rounded_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
