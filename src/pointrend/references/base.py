"""The base of all references: their files, their image, and the comparison of tensors.

A reference is a `.npz` of another implementation's numbers: `height`, `width` and `seed` of its image (see
`reference_image`), and tensors without a batch dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from pointrend.errors import PointRendError
from pointrend.inputs import Frame, network_input
from pointrend.spec import ModelSpec


class ReferenceFileError(PointRendError):
    """A reference cannot be used."""


@dataclass(frozen=True)
class Reference(ABC):
    """Another implementation's numbers for one image, with a model of one task."""

    task: ClassVar[str]
    does: ClassVar[str]
    """A predicate for messages, as `Predictor.does`."""
    numbers: ClassVar[tuple[str, ...]]
    """The whole numbers that a file of this task must have."""
    names: ClassVar[tuple[str, ...]]
    """The tensors that it may have."""
    required: ClassVar[tuple[str, ...]] = ()
    """The tensors that it must have."""

    height: int
    width: int
    seed: int
    num_points: int
    """N of each subdivision step; 0 takes the model's own."""
    tensors: Mapping[str, Tensor]

    @classmethod
    @abstractmethod
    def recognises(cls, arrays: Mapping[str, np.ndarray]) -> bool:
        """Return whether a file's arrays come from a model of this task."""

    @classmethod
    @abstractmethod
    def _tensors(cls, path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Return the tensors of a file, which has all required names and no others, or raise a ReferenceFileError."""

    @abstractmethod
    def checks(self, network: Any, spec: Any) -> list[Check]:
        """Compare what a network computes on the reference's image to the reference, in the order of computation.

        Raises:
            ReferenceFileError: a tensor of the reference has another shape than the network's.
        """

    @classmethod
    def parse(cls, path: Path, arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the reference in a file's arrays.

        Raises:
            ReferenceFileError: something is missing, unknown or out of range.
        """
        if missing := [name for name in (*cls.numbers, *cls.required) if name not in arrays]:
            raise ReferenceFileError(f"{path}: not a reference of {cls.kind()}: it has no {missing[0]!r}")
        if unknown := sorted(set(arrays) - {*cls.numbers, *cls.names}):
            raise ReferenceFileError(
                f"{path}: the tensor {unknown[0][:100]!r} is unknown; expected {', '.join(cls.names)}"
            )
        tensors = cls._tensors(path, arrays)
        values = [arrays[name] for name in cls.numbers]
        if any(value.shape != () or value.dtype.kind not in "iu" or value < 0 for value in values):
            raise ReferenceFileError(f"{path}: {', '.join(cls.numbers)} must be whole numbers")
        found = {name: int(value) for name, value in zip(cls.numbers, values, strict=True)}
        height, width, seed, points = (found.get(name, 0) for name in ("height", "width", "seed", "num_points"))
        if not (1 < height <= 8192 and 1 < width <= 8192 and seed < 2**32 and (points or "num_points" not in found)):
            said = f" or {points} points" if "num_points" in found else ""
            raise ReferenceFileError(f"{path}: {height} x {width}, seed {seed}{said} is out of range")
        return cls(height, width, seed, points, tensors)

    @classmethod
    def kind(cls) -> str:
        """Return "a semantic model" and the like, for messages."""
        return f"{'an' if cls.task[0] in 'aeiou' else 'a'} {cls.task} model"

    def network_input(self, spec: ModelSpec) -> tuple[Tensor, Frame]:
        """Return the network's input (1, 3, h, w) of the reference's image, which is padded but not resized."""
        test = spec.test.model_copy(update={"scale": 1.0, "longest": max(self.height, self.width)})
        pixels = reference_image(self.height, self.width, self.seed)
        return network_input(pixels, input=spec.input, test=test)


def of_another_model(name: str, expected: Tensor, found: Tensor) -> ReferenceFileError:
    """Return the error for a tensor whose shape differs."""
    return ReferenceFileError(
        f"{name} is {tuple(expected.shape)} in the reference, the model gives {tuple(found.shape)}: "
        "the reference is of another model"
    )


def tensor_of(array: np.ndarray) -> Tensor:
    """Return floats as a tensor, also long doubles and foreign byte orders, which PyTorch refuses."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32 if array.itemsize <= 4 else np.float64))


@dataclass(frozen=True)
class Check:
    """How a tensor compares to the reference's."""

    name: str
    difference: float
    """The largest one, relative to the reference's standard deviation."""
    tolerance: float
    ratio: float
    """Ratio of pixels where a channel differs by more than the tolerance."""
    allowed_ratio: float
    counted: str = "of pixels above"
    """The unit of `ratio`, for tables."""

    @property
    def ok(self) -> bool:
        """Whether at most the allowed ratio of pixels differs."""
        return self.ratio <= self.allowed_ratio


def compare(name: str, found: Tensor, expected: Tensor, *, tolerance: float, allowed_ratio: float = 0.0) -> Check:
    """Compare tensors of one shape, relative to the reference's standard deviation.

    A pixel of maps (C, H, W) counts once, by its worst channel; other shapes are compared number by number.
    """
    # In doubles, so that the comparison adds no error.
    expected = expected.double()
    difference = (found.double() - expected).abs() / expected.std(correction=0)
    within = difference <= tolerance  # NaN is above
    above = ~(within.all(dim=0) if within.ndim == 3 else within)
    return Check(name, float(difference.max()), tolerance, float(above.double().mean()), allowed_ratio)


def reference_image(height: int, width: int, seed: int) -> np.ndarray:
    """Return the image (H, W, 3), uint8 RGB, of a reference: waves and noise."""
    # The legacy generator's numbers do not change between versions of numpy.
    random = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width]
    image = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(6):
            vertical, horizontal, phase = random.uniform(-4, 4), random.uniform(-4, 4), random.uniform(0, 6.28)
            image[..., channel] += np.sin(6.28 * (vertical * y / height + horizontal * x / width) + phase)
    image += 0.5 * random.standard_normal(image.shape)
    image = (image - image.min()) / (image.max() - image.min())
    rounded: np.ndarray = (image * 255).round().astype(np.uint8)
    return rounded
