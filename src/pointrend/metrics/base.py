"""The base classes of metrics, which take settings, then images one by one, and compute named numbers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from pointrend.errors import PointRendError
from pointrend.metrics.instances import ImageInstances, check_pair

try:
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError("evaluation needs torchmetrics: pip install 'pointrend[train]'") from error

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class MetricSettings:
    """The settings of all metrics; each uses those that concern it.

    Raises:
        PointRendError: a setting is out of range.
    """

    class_names: tuple[str, ...]
    """The names of the classes in the model's order."""
    boundary_ratio: float | None = None
    """Ratio of the width of boundary bands to each image's diagonal; None: 0.005 for label maps, 0.02 for instances."""
    max_detections: int = 100
    """Maximum number of scored detections of an image; for COCO, of a class in an image."""
    frequencies: tuple[str, ...] = ()
    """LVIS: "r" (rare), "c" (common) or "f" (frequent) for each class; empty if unknown."""

    def __post_init__(self) -> None:
        if not self.class_names or len(set(self.class_names)) != len(self.class_names):
            raise PointRendError(f"class_names must be distinct names, at least one, got {list(self.class_names)}")
        if self.boundary_ratio is not None and not 0 < self.boundary_ratio < 1:
            raise PointRendError(f"boundary_ratio must be between 0 and 1, got {self.boundary_ratio}")
        if self.max_detections < 1:
            raise PointRendError(f"max_detections must be at least 1, got {self.max_detections}")
        classes = len(self.class_names)
        if self.frequencies and (len(self.frequencies) != classes or not set(self.frequencies) <= {"r", "c", "f"}):
            raise PointRendError(
                f"frequencies must be one of r, c, f for each of {classes} classes, got {self.frequencies}"
            )


class SplitMetric(Metric):
    """Base of all metrics, which collect the images of a split and compute numbers by name.

    Numbers are in percent, and nan if undefined. Those of a class are named "NUMBER/CLASS", for example "iou/sky".
    Every process computes the numbers of the images it added, until it joins those that others collected.
    """

    name: ClassVar[str]
    """The metric's name in layouts. A class without a name is a base of other metrics."""
    headline: ClassVar[Mapping[str, str]]
    """The numbers shown in tables, the most important first, and their titles."""
    per_class: ClassVar[Mapping[str, str]] = {}
    """The numbers shown in the table of classes, and their titles; "iou" stands for "iou/CLASS"."""
    default_boundary_ratio: ClassVar[float] = 0.02

    full_state_update = False

    def __init__(self, settings: MetricSettings) -> None:
        # Training evaluates in the first process alone, which would wait for the others for ever.
        super().__init__(sync_on_compute=False)
        self.class_names = settings.class_names
        self.num_classes = len(settings.class_names)
        ratio = settings.boundary_ratio
        self.boundary_ratio = self.default_boundary_ratio if ratio is None else ratio

    @abstractmethod
    def update(self, prediction: Any, truth: Any) -> None:
        """Add one image: its prediction and its ground truth."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Compute the numbers of all added images."""

    def collected(self) -> Any:
        """Return what the images of this process added, for `join` in another one; on the CPU."""
        return {name: value.cpu() for name, value in self.metric_state.items() if isinstance(value, Tensor)}

    def join(self, collected: Sequence[Any]) -> None:
        """Take the images of several processes, this one included, in the place of its own: states are sums."""
        for name, value in self.metric_state.items():
            assert isinstance(value, Tensor)
            setattr(self, name, torch.stack([of[name] for of in collected]).sum(dim=0).to(value.device))
        self._update_count = 1


class InstanceMetric(SplitMetric, Generic[Kept]):
    """Base of metrics of instances, which keep data of every image by the image's id.

    The numbers do not depend on the order of images.
    """

    def __init__(self, settings: MetricSettings) -> None:
        super().__init__(settings)
        self._images: dict[int, Kept] = {}

    def __len__(self) -> int:
        """Return the number of added images."""
        return len(self._images)

    def update(self, prediction: ImageInstances, truth: ImageInstances) -> None:
        """Add one image.

        Raises:
            ValueError: prediction and truth do not fit together, have an invalid class, or the image was added before.
                Nothing is added then.
        """
        check_pair(prediction, truth, self.num_classes)
        if truth.image_id in self._images:
            raise ValueError(f"image {truth.image_id} was added before; add every image once")
        self._images[truth.image_id] = self.keep(prediction, truth)

    @abstractmethod
    def keep(self, prediction: ImageInstances, truth: ImageInstances) -> Kept:
        """Return the data of an image that `compute` needs."""

    def kept(self) -> list[Kept]:
        """Return the kept data of all images, in the order of their ids."""
        return [self._images[image_id] for image_id in sorted(self._images)]

    def collected(self) -> dict[int, Kept]:
        """Return the kept data by image, for `join` in another process."""
        return self._images

    def join(self, collected: Sequence[Mapping[int, Kept]]) -> None:
        """Take the images of several processes, this one included, in the place of its own."""
        self._images = {image_id: kept for of in collected for image_id, kept in of.items()}
        self._update_count = 1

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._images = {}

    def forward(self, *_: object) -> None:
        """Raise: torchmetrics' `forward`, for the numbers of one image, would drop the other images."""
        raise NotImplementedError(f"the metric {self.name} does not score single images: call update, then compute")


def percent(values: np.ndarray) -> float:
    """Compute the mean in percent of the values that are not nan; nan if all are."""
    defined = values[~np.isnan(values)]
    return 100 * float(defined.mean()) if defined.size else math.nan
