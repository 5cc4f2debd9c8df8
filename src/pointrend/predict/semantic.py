"""From an image to labels at the image's own size.

H W is the image's own size, h w the size at which the network sees it, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core import Resize, SubdivisionStep, render_labels, resized_labels
from pointrend.inputs import Channels, ImageInput, network_input, to_pixels
from pointrend.models import SemanticOutput
from pointrend.models.folding import folded
from pointrend.predict.memory import memory_reported
from pointrend.results import SemanticResult
from pointrend.zoo.load import available_device
from pointrend.zoo.modelfile import SemanticModel
from pointrend.zoo.spec import TestSpec


@dataclass(frozen=True)
class Dense:
    """What the network computed for one image, before rendering."""

    output: SemanticOutput
    padded: tuple[int, int]
    """(h, w) of the network's input."""
    valid: tuple[int, int]
    """(h, w) of it that is image."""
    size: tuple[int, int]
    """(H, W) of the image."""


class SemanticPredictor:
    """Predicts with the model's own test settings and renders at the image's own size.

    Args:
        model: from `load_model`.
        size: the shortest edge at which the network sees an image, instead of the model's own; the longest edge may
            be as many times longer as the model allows.
        num_points: N of a subdivision step, instead of the model's own.
        steps: subdivision steps, instead of the model's own.
        device: where to compute; the network is moved there. None leaves it where it is.
        dense: render by the reference: all classes of all pixels in each step, as the paper states it. The labels are
            the same but for ties, it takes longer, and much more memory.

    Raises:
        ValueError: a setting is out of range, or the device does not exist here.
    """

    def __init__(
        self,
        model: SemanticModel,
        *,
        size: int | None = None,
        num_points: int | None = None,
        steps: int | None = None,
        device: torch.device | str | None = None,
        dense: bool = False,
    ) -> None:
        self.spec = model.spec
        self.renders_densely = dense
        self.test = _overridden(model.spec.test, size=size, num_points=num_points, steps=steps)
        if device is None:
            device = next((parameter.device for parameter in model.network.parameters()), "cpu")
        self.device = available_device(device)
        # Convolutions on a CPU are faster channels-last.
        self.network = folded(model.network.to(self.device)).to(memory_format=torch.channels_last)

    @overload  # a str is a sequence of str as well; it is a path
    def __call__(  # type: ignore[overload-overlap]
        self, image: ImageInput, *, channels: Channels = "rgb"
    ) -> SemanticResult: ...
    @overload
    def __call__(self, image: Sequence[ImageInput], *, channels: Channels = "rgb") -> list[SemanticResult]: ...
    def __call__(
        self, image: ImageInput | Sequence[ImageInput], *, channels: Channels = "rgb"
    ) -> SemanticResult | list[SemanticResult]:
        """Labels of one image, or of each in a list.

        Args:
            image: a path; a PIL image; an array (H, W, 3) uint8; a tensor (3, H, W), uint8 or float in [0, 1].
            channels: the order of arrays and tensors; OpenCV's is "bgr".

        Raises:
            ValueError: not such an image, or a file that cannot be read.
        """
        if isinstance(image, (list, tuple)):
            return [self(one, channels=channels) for one in image]
        assert not isinstance(image, Sequence) or isinstance(image, str)
        path = Path(image) if isinstance(image, (str, Path)) else None
        return self.predict(to_pixels(image, channels=channels), path)

    def predict(self, pixels: np.ndarray, path: Path | None = None) -> SemanticResult:
        """Labels of an image (H, W, 3) uint8 RGB that was read from `path`."""
        return self.result(self.rendered_labels(self.dense(pixels)), pixels, path)

    def result(self, labels: Tensor, pixels: np.ndarray, path: Path | None) -> SemanticResult:
        """Labels (H, W) of an image (H, W, 3) with what the model says of its classes."""
        array: np.ndarray = labels.cpu().numpy()
        return SemanticResult(
            labels=array.astype(np.uint8 if len(self.spec.classes) <= 256 else np.uint16),
            classes=self.spec.classes,
            image=pixels,
            path=path,
        )

    def compare(self, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        """Labels (H, W) of the coarse logits alone, upsampled bilinearly, and of the rendered ones."""
        dense = self.dense(pixels)
        return self.coarse_labels(dense), self.rendered_labels(dense)

    @torch.inference_mode()
    def dense(self, pixels: np.ndarray) -> Dense:
        """Run the network on an image (H, W, 3) uint8 RGB."""
        made = network_input(pixels, input=self.spec.input, test=self.test)
        padded = (made.tensor.shape[2], made.tensor.shape[3])
        with memory_reported(padded):
            output = self.network(made.tensor.to(self.device, memory_format=torch.channels_last))
        return Dense(output=output, padded=padded, valid=made.valid, size=(pixels.shape[0], pixels.shape[1]))

    @torch.inference_mode()
    def rendered_labels(self, dense: Dense) -> Tensor:
        """Labels (H, W) of the image, rendered."""
        if self.renders_densely:
            return self.image_labels(self.rendered_logits(dense), dense)
        coarse = dense.output.coarse
        grid = (coarse.shape[2] << self.test.steps, coarse.shape[3] << self.test.steps)
        with memory_reported(dense.padded):
            return render_labels(
                coarse,
                self.network.point_predictor(dense.output),
                num_points=self.test.num_points,
                steps=self.test.steps,
                resizes=last_resizes(dense, grid),
            )[0]

    @torch.inference_mode()
    def subdivision_steps(self, dense: Dense) -> Iterator[SubdivisionStep]:
        """The rendering, step by step; points and maps are in the frame of the padded input."""
        with memory_reported(dense.padded):
            yield from self.network.subdivision_steps(
                dense.output, num_points=self.test.num_points, steps=self.test.steps
            )

    def rendered_logits(self, dense: Dense) -> Tensor:
        """Logits (1, C, ., .) after the last subdivision step, of the padded input."""
        logits = dense.output.coarse
        for step in self.subdivision_steps(dense):
            logits = step.logits
        return logits

    def coarse_labels(self, dense: Dense) -> Tensor:
        """Labels (H, W) from the coarse logits, upsampled bilinearly to the image: what rendering starts from."""
        return self.image_labels(dense.output.coarse, dense)

    @torch.inference_mode()
    def image_labels(self, logits: Tensor, dense: Dense) -> Tensor:
        """Labels (H, W), int64, of the image from logits (1, C, ., .) of the padded input."""
        with memory_reported(dense.size):
            return resized_labels(cropped(logits, dense), dense.size)[0]


def last_resizes(dense: Dense, grid: tuple[int, int]) -> tuple[Resize, ...]:
    """From a grid over the padded input to the image: the padding is cut off, and the rest resized."""
    if dense.valid == dense.padded:
        return (Resize(dense.size),)
    if any(cells % padded for cells, padded in zip(grid, dense.padded, strict=True)):
        # The border to the padding may lie inside of a cell; it never lies inside of an input pixel.
        return (Resize(dense.padded), Resize(dense.size, crop=dense.valid))
    height, width = (v * cells // p for cells, v, p in zip(grid, dense.valid, dense.padded, strict=True))
    return (Resize(dense.size, crop=(height, width)),)


def cropped(maps: Tensor, dense: Dense) -> Tensor:
    """The part of maps (1, C, ., .) over the padded input that belongs to the image."""
    *before, last = last_resizes(dense, (maps.shape[2], maps.shape[3]))
    for resize in before:
        maps = F.interpolate(maps, size=resize.size, mode="bilinear", align_corners=False)
    height, width = last.crop or maps.shape[2:]
    return maps[:, :, :height, :width]


def _overridden(test: TestSpec, *, size: int | None, num_points: int | None, steps: int | None) -> TestSpec:
    changes: dict[str, int] = {}
    if size is not None:
        if size < 32:
            raise ValueError(f"size must be at least 32 (the shortest edge in pixels), got {size}")
        changes |= {"shortest": size, "longest": round(size * test.longest / test.shortest)}
    if num_points is not None:
        if num_points < 1:
            raise ValueError(f"num_points must be at least 1, got {num_points}")
        changes["num_points"] = num_points
    if steps is not None:
        if not 0 <= steps <= 8:
            raise ValueError(f"steps must be 0 to 8, got {steps}")
        changes["steps"] = steps
    return test.model_copy(update=changes)
