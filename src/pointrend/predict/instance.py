"""From an image to instances at the image's own size.

H W is the image's own size, h w the size at which the network sees it, R instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from pointrend.inputs import Channels, ImageInput, network_input, to_pixels
from pointrend.models import InstanceOutput
from pointrend.models.fast_masks import FastMasks
from pointrend.models.folding import folded
from pointrend.models.point_head import PointHead
from pointrend.predict.memory import memory_reported
from pointrend.results import InstanceResult, LazyMasks
from pointrend.zoo.load import available_device
from pointrend.zoo.modelfile import InstanceModel
from pointrend.zoo.spec import InstanceTestSpec


@dataclass(frozen=True)
class Detected:
    """What the network found in one image, before masks are rendered."""

    output: InstanceOutput
    valid: tuple[int, int]
    """(h, w) of the network's input that is image."""
    size: tuple[int, int]
    """(H, W) of the image."""


class InstancePredictor:
    """Predicts with the model's own test settings; masks are at the image's own size.

    Args:
        model: from `load_model`.
        size: the shortest edge at which the network sees an image, instead of the model's own rule; the longest edge
            may be as many times longer as the model allows.
        num_points: N of a subdivision step, instead of the model's own.
        steps: subdivision steps, instead of the model's own.
        score_threshold: instances must be scored higher, instead of the model's own.
        max_detections: the most instances of an image, instead of the model's own.
        device: where to compute; the network is moved there. None leaves it where it is.
        adaptive: stop subdividing a box once its grid is finer than the image's pixels: faster, and masks change only
            below a pixel.
        dense: render by the reference, `PointRendMaskHead.render`: the same numbers but for rounding, more slowly.

    Raises:
        ValueError: a setting is out of range, or the device does not exist here.
    """

    def __init__(
        self,
        model: InstanceModel,
        *,
        size: int | None = None,
        num_points: int | None = None,
        steps: int | None = None,
        score_threshold: float | None = None,
        max_detections: int | None = None,
        device: torch.device | str | None = None,
        adaptive: bool = False,
        dense: bool = False,
    ) -> None:
        if adaptive and dense:
            raise ValueError("the dense reference is not adaptive: choose one of adaptive and dense")
        self.spec = model.spec
        self.adaptive, self.renders_densely = adaptive, dense
        self.test = _overridden(
            model.spec.test,
            size=size,
            num_points=num_points,
            steps=steps,
            score_threshold=score_threshold,
            max_detections=max_detections,
        )
        if device is None:
            device = next((parameter.device for parameter in model.network.parameters()), "cpu")
        self.device = available_device(device)
        # Convolutions on a CPU are faster channels-last.
        self.network = folded(model.network.to(self.device)).to(memory_format=torch.channels_last)

    @property
    def stages(self) -> tuple[str, ...]:
        """What the masks of each stage are called: "coarse", "28x28", ..., "224x224"."""
        sides = [self.test.start * 2**step for step in range(self.test.steps + 1)]
        return ("coarse", *(f"{side}x{side}" for side in sides))

    @overload  # a str is a sequence of str as well; it is a path
    def __call__(  # type: ignore[overload-overlap]
        self, image: ImageInput, *, channels: Channels = "rgb"
    ) -> InstanceResult: ...
    @overload
    def __call__(self, image: Sequence[ImageInput], *, channels: Channels = "rgb") -> list[InstanceResult]: ...
    def __call__(
        self, image: ImageInput | Sequence[ImageInput], *, channels: Channels = "rgb"
    ) -> InstanceResult | list[InstanceResult]:
        """Instances of one image, or of each in a list.

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

    def predict(self, pixels: np.ndarray, path: Path | None = None) -> InstanceResult:
        """Instances of an image (H, W, 3) uint8 RGB that was read from `path`."""
        detected = self.detect(pixels)
        return replace(self.result(detected, self.render(detected)[-1], pixels), path=path)

    @torch.inference_mode()
    def detect(self, pixels: np.ndarray) -> Detected:
        """Run the network on an image (H, W, 3) uint8 RGB."""
        test = self.test
        made = network_input(pixels, input=self.spec.input, test=test)
        with memory_reported((made.tensor.shape[2], made.tensor.shape[3])):
            output = self.network(
                made.tensor.to(self.device, memory_format=torch.channels_last),
                [made.valid],
                proposals_per_level=test.proposals_per_level,
                max_proposals=test.max_proposals,
                proposal_nms=test.proposal_nms,
                score_threshold=test.score_threshold,
                nms=test.nms,
                max_detections=test.max_detections,
            )
        return Detected(output=output, valid=made.valid, size=(pixels.shape[0], pixels.shape[1]))

    @torch.inference_mode()
    def render(self, detected: Detected) -> list[Tensor]:
        """Mask logits (R, 1, M, M) of each of `stages`, in the boxes of the detections."""
        test, output = self.test, detected.output
        with memory_reported(output.features.size):
            head = self.network.mask_head.point_head
            if self.renders_densely or type(head) is not PointHead or not head.layers:
                return self.network.render(output, start=test.start, num_points=test.num_points, steps=test.steps)
            (found,) = output.detections
            masks = FastMasks(self.network.mask_head, output.features.fine, output.features.size)
            return masks.render(
                found.boxes,
                found.classes,
                start=test.start,
                num_points=test.num_points,
                steps=test.steps,
                pixels=self._sides(detected) if self.adaptive else None,
            )

    def _sides(self, detected: Detected) -> Tensor:
        """(R,) the longer side of each box in pixels of the image."""
        boxes = self._in_image(detected)
        return (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)

    def _in_image(self, detected: Detected) -> Tensor:
        """(R, 4) boxes in pixels of the image."""
        (found,) = detected.output.detections
        height, width = detected.size
        # Each axis by its own factor: the network's size is rounded to whole pixels.
        return found.boxes * found.boxes.new_tensor((width / detected.valid[1], height / detected.valid[0])).repeat(2)

    @torch.inference_mode()
    def result(self, detected: Detected, logits: Tensor, pixels: np.ndarray) -> InstanceResult:
        """The instances of an image (H, W, 3) uint8 RGB with the masks of one stage."""
        (found,) = detected.output.detections
        boxes = self._in_image(detected).cpu().numpy()
        return InstanceResult(
            boxes=boxes,
            scores=found.scores.cpu().numpy(),
            class_ids=found.classes.cpu().numpy(),
            masks=LazyMasks(
                probabilities=logits[:, 0].sigmoid().cpu().numpy(),
                boxes=boxes,
                size=detected.size,
                paste=self.test.paste,
            ),
            classes=self.spec.classes,
            image=pixels,
            path=None,
        )


def _overridden(
    test: InstanceTestSpec,
    *,
    size: int | None,
    num_points: int | None,
    steps: int | None,
    score_threshold: float | None,
    max_detections: int | None,
) -> InstanceTestSpec:
    changes: dict[str, int | float | None] = {}
    if size is not None:
        if size < 32:
            raise ValueError(f"size must be at least 32 (the shortest edge in pixels), got {size}")
        changes |= {"scale": None, "shortest": size, "longest": round(size * max(2.0, test.longest / test.shortest))}
    if num_points is not None:
        if num_points < 1:
            raise ValueError(f"num_points must be at least 1, got {num_points}")
        changes["num_points"] = num_points
    if steps is not None:
        if not 0 <= steps <= 6:
            raise ValueError(f"steps must be 0 to 6, got {steps}")
        changes["steps"] = steps
    if score_threshold is not None:
        if not 0 <= score_threshold < 1:
            raise ValueError(f"score_threshold must be at least 0 and under 1, got {score_threshold}")
        changes["score_threshold"] = score_threshold
    if max_detections is not None:
        if not 1 <= max_detections <= 65535:
            raise ValueError(f"max_detections must be 1 to 65535, got {max_detections}")
        changes["max_detections"] = max_detections
    return test.model_copy(update=changes)
