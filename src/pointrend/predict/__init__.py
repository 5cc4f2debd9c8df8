"""From a model and an image to a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch

from pointrend.inputs import Channels, ImageInput
from pointrend.predict.instance import Detected, InstancePredictor
from pointrend.predict.semantic import Dense, SemanticPredictor, cropped
from pointrend.results import InstanceResult, SemanticResult
from pointrend.zoo.modelfile import InstanceModel, Model

__all__ = ["Dense", "Detected", "InstancePredictor", "Predictor", "SemanticPredictor", "cropped"]

Result = SemanticResult | InstanceResult


class Predictor:
    """Predicts with a model of either task: a `SemanticPredictor` or an `InstancePredictor`, which stands in `task`.

    Args:
        model: from `load_model`.
        size, num_points, steps, device, dense: see these two. What only one of them takes is given to it directly.

    Raises:
        ValueError: a setting is out of range, or the device does not exist here.
    """

    def __init__(
        self,
        model: Model,
        *,
        size: int | None = None,
        num_points: int | None = None,
        steps: int | None = None,
        device: torch.device | str | None = None,
        dense: bool = False,
    ) -> None:
        self.spec = model.spec
        self.task: SemanticPredictor | InstancePredictor
        if isinstance(model, InstanceModel):
            self.task = InstancePredictor(
                model, size=size, num_points=num_points, steps=steps, device=device, dense=dense
            )
        else:
            self.task = SemanticPredictor(
                model, size=size, num_points=num_points, steps=steps, device=device, dense=dense
            )

    @overload  # a str is a sequence of str as well; it is a path
    def __call__(  # type: ignore[overload-overlap]
        self, image: ImageInput, *, channels: Channels = "rgb"
    ) -> Result: ...
    @overload
    def __call__(self, image: Sequence[ImageInput], *, channels: Channels = "rgb") -> list[Result]: ...
    def __call__(
        self, image: ImageInput | Sequence[ImageInput], *, channels: Channels = "rgb"
    ) -> Result | list[Result]:
        """The result of one image, or of each in a list.

        Args:
            image: a path; a PIL image; an array (H, W, 3) uint8; a tensor (3, H, W), uint8 or float in [0, 1].
            channels: the order of arrays and tensors; OpenCV's is "bgr".

        Raises:
            ValueError: not such an image, or a file that cannot be read.
        """
        if isinstance(image, (list, tuple)):
            return [self.task(one, channels=channels) for one in image]
        assert not isinstance(image, Sequence) or isinstance(image, str)
        return self.task(image, channels=channels)
