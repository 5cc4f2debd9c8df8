"""The base of all predictors: a prepared network, test settings, and errors when memory runs out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from pointrend.data.images import ImageError
from pointrend.errors import PointRendError, shown
from pointrend.inputs import Frame, network_input
from pointrend.predict.options import PredictOptions
from pointrend.results import Result
from pointrend.spec import MAX_LONGEST, ModelSpec, TestSpec

Output = TypeVar("Output")
ResultT = TypeVar("ResultT", bound=Result)
SpecT = TypeVar("SpecT", bound=ModelSpec)
TestT = TypeVar("TestT", bound=TestSpec)


@dataclass(frozen=True)
class Encoded(Generic[Output]):
    """The network's output for one image, before rendering."""

    output: Output
    frame: Frame


class Predictor(ABC, Generic[SpecT, TestT, Output, ResultT]):
    """Predicts with a model's own test settings, as changed by options.

    Args:
        network: in evaluation mode, as `prepared` returns it.
        spec: of the model.
        options: changes to its test settings.

    Raises:
        PointRendError: an option is out of range, or for models of another task.
    """

    result_type: ClassVar[type[Result]]
    does: ClassVar[str]
    """A predicate for messages: "labels pixels"."""
    foreign: ClassVar[dict[str, str]]
    """Options of other tasks, with the kind of models that have them."""
    max_steps: ClassVar[int]
    min_aspect: ClassVar[float]
    """With the option `size`, images of up to this ratio of edges are not limited by `longest`."""

    def __init__(self, network: Any, spec: SpecT, options: PredictOptions = PredictOptions()) -> None:
        for name in options.changed():
            if name in self.foreign:
                raise PointRendError(f"{name} is for {self.foreign[name]} models, {spec.name} {self.does}")
        self.network = network
        self.spec = spec
        self.options = options
        self.test = self._settings(options)
        self.device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))

    @abstractmethod
    def _settings(self, options: PredictOptions) -> TestT:
        """Return the model's test settings with all options applied."""

    @abstractmethod
    def predict(self, pixels: np.ndarray, path: Path | None = None) -> ResultT:
        """Return the result of an image (H, W, 3) uint8 RGB that was read from `path`."""

    @abstractmethod
    def compare(self, pixels: np.ndarray) -> dict[str, ResultT]:
        """Return the results before rendering and after, by the name of the stage."""

    def final(self, encoded: Encoded[Output], pixels: np.ndarray) -> ResultT:
        """Return the rendered result of an image (H, W, 3) that `encode` was given, maybe with other options."""
        return self.predict(pixels)

    def resolution(self, steps: int) -> str:
        """Name the resolution of a prediction after a number of subdivision steps, for tables."""
        return f"{steps} steps"

    @abstractmethod
    def _network_output(self, images: Tensor, frame: Frame) -> Output:
        """Run the network on one image (1, 3, h, w)."""

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> Encoded[Output]:
        """Run the network on an image (H, W, 3) uint8 RGB."""
        return self.encode_input(*network_input(pixels, input=self.spec.input, test=self.test))

    @torch.inference_mode()
    def encode_input(self, images: Tensor, frame: Frame) -> Encoded[Output]:
        """Run the network on its input (1, 3, h, w)."""
        with memory_reported(frame.padded):
            output = self._network_output(images.to(self.device, memory_format=torch.channels_last), frame)
        return Encoded(output, frame)

    def _overridden(self, test: TestT, options: PredictOptions) -> TestT:
        """Return test settings with the options `size`, `points` and `steps` applied."""
        changes: dict[str, object] = {}
        if options.size is not None:
            aspect = max(self.min_aspect, test.longest / test.shortest)
            longest = max(options.size, min(round(options.size * aspect), MAX_LONGEST))
            changes = {"scale": None, "shortest": options.size, "longest": longest}
        if options.steps is not None and not 0 <= options.steps <= self.max_steps:
            raise PointRendError(f"steps must be 0 to {self.max_steps}, got {shown(options.steps)}")
        subdivision = test.subdivision
        if options.points is not None:
            subdivision = replace(subdivision, num_points=options.points)
        if options.steps is not None:
            subdivision = replace(subdivision, steps=options.steps)
        return test.model_copy(update={**changes, "subdivision": subdivision})


@contextmanager
def memory_reported(size: tuple[int, int]) -> Iterator[None]:
    """Turn torch's errors when memory runs out into one line; other errors are bugs and pass."""
    try:
        yield
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise ImageError(
            f"not enough memory for {size[0]} x {size[1]} pixels; a smaller image or size= / --size needs less"
        ) from error
