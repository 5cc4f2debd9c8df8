"""Find objects in several passes: at several scales, and mirrored.

As detectron2 does it: the boxes of all passes are joined, and non-maximum suppression of each class by the model's
threshold keeps the best of them. The masks of those that are left are rendered in every pass, from its own features,
and their probabilities are averaged.

Shapes: H W the image's own size, h w the size at which a pass sees it, R objects, M the side of a grid of masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torchvision import ops

from pointrend.inputs import normalised, padded, test_size
from pointrend.models import InstanceOutput
from pointrend.models.detector import Detections
from pointrend.predict.augmentation import Pass
from pointrend.predict.base import Encoded

if TYPE_CHECKING:
    from pointrend.predict.instance import InstancePredictor


@dataclass(frozen=True)
class SeenPass:
    """What the network gave in a pass, of the mirror image if the pass is mirrored."""

    encoded: Encoded[InstanceOutput]
    mirrored: bool

    def to_image(self, boxes: Tensor) -> Tensor:
        """Return boxes (R, 4) of the pass's input in pixels of the image."""
        return self._mirrored(boxes * self._factors(boxes))

    def to_input(self, boxes: Tensor) -> Tensor:
        """Return boxes (R, 4) in pixels of the image as the pass's input has them."""
        return self._mirrored(boxes) / self._factors(boxes)

    def _factors(self, boxes: Tensor) -> Tensor:
        frame = self.encoded.frame
        # The two factors differ, because the network's size is rounded to whole pixels.
        return boxes.new_tensor((frame.size[1] / frame.valid[1], frame.size[0] / frame.valid[0])).repeat(2)

    def _mirrored(self, boxes: Tensor) -> Tensor:
        """Mirror boxes (R, 4) in pixels of the image, if the pass is mirrored."""
        if not self.mirrored:
            return boxes
        left, top, right, bottom = boxes.unbind(1)
        width = self.encoded.frame.size[1]
        return torch.stack((width - right, top, width - left, bottom), dim=1)


@dataclass(frozen=True)
class Found:
    """The objects of all passes, best first."""

    detections: Detections
    """In pixels of the image."""
    probabilities: dict[str, Tensor]
    """Of the masks (R, M, M) in the boxes, by the name of the stage."""


@torch.inference_mode()
def found_in_passes(predictor: InstancePredictor, pixels: np.ndarray, shown: Sequence[str]) -> Found:
    """Return the objects of an image (H, W, 3) uint8 RGB with the masks of the stages `shown`."""
    seen = [_seen(predictor, pixels, one) for one in predictor.options.augmentation.passes]
    best = joined(seen, predictor.test.detection.nms, predictor.test.detection.max_detections)
    means: dict[str, Tensor] = {}
    for one in seen:
        of_pass = best._replace(boxes=one.to_input(best.boxes))
        logits = predictor.render(Encoded(one.encoded.output._replace(detections=(of_pass,)), one.encoded.frame))
        for stage, masks in zip(predictor.stages, logits, strict=True):
            if stage in shown:
                probabilities = (masks[:, 0].flip(2) if one.mirrored else masks[:, 0]).sigmoid() / len(seen)
                means[stage] = means[stage] + probabilities if stage in means else probabilities
    return Found(best, means)


def joined(seen: Sequence[SeenPass], nms: float, maximum: int) -> Detections:
    """Return the best detections of all passes, at most `maximum`, in pixels of the image.

    Args:
        seen: all passes of an image.
        nms: IoU above which the worse of two boxes of a class is dropped.
        maximum: how many are kept.
    """
    found = [one.encoded.output.detections[0] for one in seen]
    boxes = torch.cat([one.to_image(of_pass.boxes) for one, of_pass in zip(seen, found, strict=True)])
    scores = torch.cat([of_pass.scores for of_pass in found])
    classes = torch.cat([of_pass.classes for of_pass in found])
    every = ops.batched_nms(boxes, scores, classes, nms)
    kept = every[:maximum]
    limited = len(kept) < len(every) or any(of_pass.limited for of_pass in found)
    return Detections(boxes[kept], scores[kept], classes[kept], limited=limited)


def _seen(predictor: InstancePredictor, pixels: np.ndarray, one: Pass) -> SeenPass:
    size, test = (pixels.shape[0], pixels.shape[1]), predictor.test.scaled(one.scale)
    image = np.fliplr(pixels).copy() if one.mirrored else pixels
    encoded = predictor.encode_input(
        *padded(normalised(image, test_size(size, test), predictor.spec.input), test.pad_multiple, size)
    )
    # Masks read the fine maps alone; the pyramids of all passes would take a third more memory.
    features = encoded.output.features._replace(pyramid=())
    return SeenPass(Encoded(encoded.output._replace(features=features), encoded.frame), one.mirrored)
