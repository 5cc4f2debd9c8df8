"""What an instance data set is, whatever its layout: images and what each shows.

Shapes: R instances, K layers, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from pointrend.data.classes import ClassInfo


@dataclass(frozen=True, eq=False)
class InstanceMasks:
    """The instances of one image, in layers of ids, so that an image of 300 nuclei is one map."""

    ids: np.ndarray
    """(K, H, W) int32; 0 is nothing. Instances that overlap lie in different layers."""
    instance_ids: np.ndarray
    """(R,) int32, the value of each instance in its layer."""
    layers: np.ndarray
    """(R,) int64."""
    classes: np.ndarray
    """(R,) int64, indices of `InstanceSet.classes`."""
    crowd: np.ndarray
    """(R,) bool: a region of many objects, never trained on, and neither right nor wrong to find."""

    def mask(self, index: int) -> np.ndarray:
        """(H, W) bool of one instance."""
        mask: np.ndarray = self.ids[self.layers[index]] == self.instance_ids[index]
        return mask


class Annotations(Protocol):
    """What is known of an image's instances before they are read."""

    def read(self, size: tuple[int, int]) -> InstanceMasks:
        """The instances of the image, whose size is (H, W).

        Raises:
            ValueError: unreadable, or for another size; one line that names the file.
        """


@dataclass(frozen=True, eq=False)
class InstanceSample:
    """An image and what is known of its instances."""

    image: Path
    annotations: Annotations
    image_id: int | str
    """COCO's id; the stem elsewhere."""


@dataclass(frozen=True, eq=False)
class InstanceSet:
    """One split of a data set."""

    name: str
    """The layout's."""
    samples: tuple[InstanceSample, ...]
    classes: tuple[ClassInfo, ...]
    category_ids: tuple[int, ...]
    """The data set's own number of each class."""
    images_of_class: tuple[int, ...] = field(default=())
    """In how many images each class occurs; empty where that is not known without reading all."""
    frequencies: tuple[str, ...] = field(default=())
    """LVIS: "r", "c" or "f" of each class."""


def read_instances(sample: InstanceSample, size: tuple[int, int]) -> InstanceMasks:
    """What an image of `size` (H, W) shows."""
    return sample.annotations.read(size)


def pack(
    masks: Sequence[np.ndarray], classes: Sequence[int], crowd: Sequence[bool], size: tuple[int, int]
) -> InstanceMasks:
    """Masks (H, W) bool that may overlap, in as few layers as taking the first that fits gives.

    Masks without a pixel are dropped.
    """
    layers: list[np.ndarray] = []
    kept: list[int] = []
    places: list[int] = []
    for index, mask in enumerate(masks):
        if not mask.any():
            continue
        place = next((k for k, layer in enumerate(layers) if not layer[mask].any()), len(layers))
        if place == len(layers):
            layers.append(np.zeros(size, np.int32))
        layers[place][mask] = index + 1
        kept.append(index)
        places.append(place)
    return InstanceMasks(
        ids=np.stack(layers) if layers else np.zeros((0, *size), np.int32),
        instance_ids=np.array([index + 1 for index in kept], np.int32),
        layers=np.array(places, np.int64),
        classes=np.array([classes[index] for index in kept], np.int64),
        crowd=np.array([crowd[index] for index in kept], bool),
    )
