"""Data sets of any layout and task: images and their annotations.

Shapes: R instances, K layers, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor
from torchvision import tv_tensors

from pointrend.data.classes import ClassInfo
from pointrend.data.problems import Problem
from pointrend.rle import Rle


class InstanceMasks(NamedTuple):
    """The instances of one image as layers of ids: an image of 300 nuclei needs one array, not 300 masks."""

    ids: tv_tensors.Mask
    """(K, H, W) int32; 0 is background. Instances that overlap are in different layers."""
    instance_ids: Tensor
    """(R,) int32, the id of each instance in its layer."""
    layers: Tensor
    """(R,) int64, the layer of each instance."""
    classes: Tensor
    """(R,) int64, indices of `SampleSet.classes`."""
    crowd: Tensor
    """(R,) bool; crowds are not trained on and count as neither right nor wrong."""

    def mask(self, index: int) -> np.ndarray:
        """Return the mask (H, W) bool of one instance."""
        mask: np.ndarray = (self.ids[self.layers[index]] == self.instance_ids[index]).numpy()
        return mask


@dataclass(frozen=True, eq=False)
class InstanceTruth:
    """The annotated instances of an image, against which predictions are scored."""

    boxes: np.ndarray
    """(R, 4) float, xyxy in pixels."""
    classes: np.ndarray
    """(R,) int64, indices of `SampleSet.classes`."""
    masks: list[Rle]
    crowd: np.ndarray
    """(R,) bool."""
    areas: np.ndarray | None = None
    """(R,) float, areas in pixels as stated by the data set; None: those of the masks."""
    absent: tuple[int, ...] = ()
    """LVIS: classes that were looked for in the image and not found."""
    incomplete: tuple[int, ...] = ()
    """LVIS: classes of which the image may show more objects than are annotated."""
    instance_ids: np.ndarray | None = None
    """(H, W) int32, the id image of Cityscapes, which its metric needs."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a check found in the annotations of one image."""

    problems: tuple[Problem, ...] = ()
    """What makes the image, or some of its objects, unusable."""
    usable: Annotations | None = None
    """The annotations without unusable objects; None: nothing can be used."""
    counts: np.ndarray | None = None
    """The number of pixels of each train id (256,), or of objects of each class (C,) without crowds; None: not read."""
    read: bool = True
    """Whether pixels were looked at."""
    hollow: int = 0
    """Objects without pixels."""
    strays: int = 0
    """Polygons of one or two points beside others, which are left out."""
    marks: tuple[str, ...] = ()
    """Peculiarities that say something if all images share them, see `pointrend.data.census`."""


class Annotations(Protocol):
    """The annotations of an image, read on demand. Sizes are (H, W) of the image."""

    @property
    def classes(self) -> tuple[int, ...] | None:
        """Return the class index of each instance; None if that needs reading files."""
        return None

    def read(self, size: tuple[int, int]) -> Any:
        """Read for training: train ids as `tv_tensors.Mask` (H, W) uint8, or `InstanceMasks`.

        Raises:
            DatasetError, ImageError: unreadable, or of another size; one line that names the file.
        """

    def truth(self, size: tuple[int, int]) -> Any:
        """Read for evaluation: train ids (H, W) uint8, or `InstanceTruth`. Raises as `read` does."""

    def inspect(self, image: Path, size: tuple[int, int] | None, *, whole: bool) -> Inspection:
        """Look for problems, and count classes; `whole` also decodes masks, which is slow.

        `image` is the image file, for messages; `size` is None if it cannot be read.
        """


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and its annotations."""

    image: Path
    annotations: Annotations
    image_id: int | str
    """The id in COCO and LVIS, else the name shared by image and labels."""


@dataclass(frozen=True, eq=False)
class SampleSet:
    """One split of a data set."""

    layout: str
    task: str
    """"semantic" or "instance": a row of `pointrend.tasks.TASKS`."""
    samples: tuple[Sample, ...]
    classes: tuple[ClassInfo, ...]
    """The classes in the order of their train ids, without ignored ones."""
    metrics: tuple[str, ...]
    """The names of the metrics of this data set: semantic, coco, lvis, f1, cityscapes; none without labels."""
    category_ids: tuple[int, ...] = ()
    """The category id of each class, in instance data sets."""
    unmatched_images: tuple[Path, ...] = ()
    """Images without labels."""
    unmatched_labels: tuple[Path, ...] = ()
    """Labels without an image."""
    images_of_class: tuple[int, ...] = ()
    """The number of images that show each class; empty if that needs reading all files."""
    frequencies: tuple[str, ...] = ()
    """LVIS: "r", "c" or "f" for each class."""
    submission: str = "labels"
    """How its benchmark takes results: a name in `pointrend.evaluation.submissions.FORMS`."""
    label_values: tuple[int, ...] = ()
    """The value of each class in label images; empty: its index."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes in the order of their train ids."""
        return tuple(info.name for info in self.classes)
