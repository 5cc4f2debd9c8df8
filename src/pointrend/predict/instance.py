"""Predict instances at the image's own size.

Shapes: H W the image's own size, h w the size at which the network sees it, R instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pointrend.errors import PointRendError
from pointrend.inputs import Frame
from pointrend.models import InstanceOutput, InstancePointRend, PointHead
from pointrend.models.detector import Detections
from pointrend.models.fast_masks import FastMasks
from pointrend.models.settings import MAX_PROPOSALS
from pointrend.predict.augmented_instances import found_in_passes
from pointrend.predict.base import Encoded, Predictor, memory_reported
from pointrend.predict.options import PredictOptions
from pointrend.predict.tiles import merged, tiles_of
from pointrend.results import InstanceResult, LazyMasks
from pointrend.spec import MAX_MASK_SIDE, MAX_MASK_STEPS, InstanceSpec, InstanceTest


class InstancePredictor(Predictor[InstanceSpec, InstanceTest, InstanceOutput, InstanceResult]):
    """Finds every object; see `Predictor`."""

    network: InstancePointRend
    result_type = InstanceResult
    does = "finds instances"
    foreign: ClassVar = {"probabilities": "semantic", "slide": "semantic"}
    max_steps = MAX_MASK_STEPS
    min_aspect = 2.0

    def _settings(self, options: PredictOptions) -> InstanceTest:
        test = self._overridden(self.spec.test, options)
        subdivision = test.subdivision
        if (side := subdivision.start << subdivision.steps) > MAX_MASK_SIDE:
            raise PointRendError(f"steps must make masks of at most {MAX_MASK_SIDE} pixels a side, got {side}")
        detection, changes = test.detection, dict[str, object]()
        if options.score_threshold is not None:
            changes["score_threshold"] = options.score_threshold
        if options.max_detections is not None:
            changes["max_detections"] = options.max_detections
            # Each detection comes from a proposal, and several proposals are of one object.
            wanted = min(2 * options.max_detections, MAX_PROPOSALS)
            for name in ("proposals_per_level", "max_proposals"):
                changes[name] = max(getattr(detection, name), wanted)
        return test.model_copy(update={"detection": detection.model_copy(update=changes)})

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages: "coarse", "28x28", ..., "224x224"."""
        subdivision = self.test.subdivision
        sides = [subdivision.start * 2**step for step in range(subdivision.steps + 1)]
        return ("coarse", *(f"{side}x{side}" for side in sides))

    def predict(self, pixels: np.ndarray, path: Path | None = None) -> InstanceResult:
        """Return the instances of an image (H, W, 3) uint8 RGB that was read from `path`."""
        found = self._found(pixels, self.stages[-1:])[self.stages[-1]]
        return replace(found, path=path).visible()

    def compare(self, pixels: np.ndarray) -> dict[str, InstanceResult]:
        """Return the results with the masks of the coarse stage, of the start grid and of the last step."""
        return self._found(pixels, tuple(dict.fromkeys((*self.stages[:2], self.stages[-1]))))

    def final(self, encoded: Encoded[InstanceOutput], pixels: np.ndarray) -> InstanceResult:
        """Return the instances of an encoded image, with the masks of the last step."""
        return self.result(encoded, self.render(encoded)[-1], pixels)

    def resolution(self, steps: int) -> str:
        """Name the grid of masks after some steps."""
        side = self.test.subdivision.start << steps
        return f"{side}x{side}"

    def _found(self, pixels: np.ndarray, shown: Sequence[str]) -> dict[str, InstanceResult]:
        """Return the result of each of the stages `shown`; large images are predicted in tiles."""
        tiles = tiles_of((pixels.shape[0], pixels.shape[1]), self.test)
        of_tiles = []
        for left, top, right, bottom in tiles:
            part = pixels[top:bottom, left:right]
            of_tiles.append(self._found_whole(part, shown) if self.options.single else self._fused(part, shown))
        if len(tiles) == 1:
            return of_tiles[0]
        notes = (f"predicted in {len(tiles)} tiles, because the image is larger than the model sees at its scale",)
        nms = self.test.detection.nms
        merged_stages = {stage: merged([found[stage] for found in of_tiles], tiles, pixels, nms) for stage in shown}
        return {stage: self._limited(found).noted(notes) for stage, found in merged_stages.items()}

    def _found_whole(self, pixels: np.ndarray, shown: Sequence[str]) -> dict[str, InstanceResult]:
        encoded = self.encode(pixels)
        masks = dict(zip(self.stages, self.render(encoded), strict=True))
        return {stage: self.result(encoded, masks[stage], pixels) for stage in shown}

    def _fused(self, pixels: np.ndarray, shown: Sequence[str]) -> dict[str, InstanceResult]:
        found = found_in_passes(self, pixels, shown)
        return {
            stage: self._result(found.detections, found.detections.boxes, found.probabilities[stage], pixels, None)
            for stage in shown
        }

    def _limited(self, found: InstanceResult) -> InstanceResult:
        """Return the best objects of an image in tiles, at most as many as `max_detections` allows if it is given.

        The model's own maximum is of a tile: in a large image there are more objects.
        """
        maximum = self.options.max_detections
        if maximum is None or len(found) <= maximum:
            return found
        return replace(found[:maximum], notes=tuple(dict.fromkeys((*found.notes, _limit_note(maximum)))))

    def _network_output(self, images: Tensor, frame: Frame) -> InstanceOutput:
        output: InstanceOutput = self.network(images, [frame.valid], self.test.detection)
        return output

    @torch.inference_mode()
    def render(self, encoded: Encoded[InstanceOutput]) -> list[Tensor]:
        """Return mask logits (R, 1, M, M) in the detected boxes, of each of `stages`."""
        output, subdivision = encoded.output, self.test.subdivision
        with memory_reported(output.features.size):
            head = self.network.mask_head.point_head
            if self.options.reference or type(head) is not PointHead or not head.layers:
                return self.network.render(output, subdivision)
            (found,) = output.detections
            masks = FastMasks(self.network.mask_head, output.features.fine, output.features.size)
            image_boxes = self._image_boxes(encoded)
            adaptive = self.options.adaptive or self.test.adaptive
            sides = (image_boxes[:, 2:] - image_boxes[:, :2]).amax(dim=1) if adaptive else None
            return masks.render(found.boxes, found.classes, subdivision, pixels=sides)

    @torch.inference_mode()
    def result(
        self, encoded: Encoded[InstanceOutput], logits: Tensor, pixels: np.ndarray, path: Path | None = None
    ) -> InstanceResult:
        """Return the instances of an image (H, W, 3) uint8 RGB with the mask logits of one stage."""
        (found,) = encoded.output.detections
        return self._result(found, self._image_boxes(encoded), logits[:, 0].sigmoid(), pixels, path)

    def _result(
        self, found: Detections, image_boxes: Tensor, probabilities: Tensor, pixels: np.ndarray, path: Path | None
    ) -> InstanceResult:
        """Return the instances with boxes (R, 4) in pixels of the image and probabilities (R, M, M) of their masks."""
        boxes = image_boxes.cpu().numpy()
        return InstanceResult(
            boxes=boxes,
            scores=found.scores.cpu().numpy(),
            labels=found.classes.cpu().numpy(),
            masks=LazyMasks(
                probabilities=probabilities.cpu().numpy(),
                boxes=boxes,
                size=(pixels.shape[0], pixels.shape[1]),
                paste=self.test.paste,
            ),
            classes=self.spec.classes,
            image=pixels,
            path=path,
            notes=(_limit_note(self.test.detection.max_detections),) if found.limited else (),
        )

    def _image_boxes(self, encoded: Encoded[InstanceOutput]) -> Tensor:
        """Return boxes (R, 4) in pixels of the image."""
        (found,), frame = encoded.output.detections, encoded.frame
        # The two factors differ, because the network's size is rounded to whole pixels.
        factors = (frame.size[1] / frame.valid[1], frame.size[0] / frame.valid[0])
        return found.boxes * found.boxes.new_tensor(factors).repeat(2)


def _limit_note(maximum: int) -> str:
    limit = f"more than {maximum} objects were found, and the best {maximum} kept"
    return f"{limit}; --max-detections N (max_detections=N) keeps more"
