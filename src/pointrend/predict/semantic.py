"""Predict labels at the image's own size.

Shapes: H W the image's own size, h w the size at which the network sees it, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core import (
    RenderedPass,
    Rendering,
    Subdivision,
    SubdivisionStep,
    fused_labels,
    fused_probabilities,
    renderings,
    resized_labels,
)
from pointrend.inputs import Frame
from pointrend.models import SemanticNetwork, SemanticOutput
from pointrend.predict.augmented import rendered_passes
from pointrend.predict.base import Encoded, Predictor, memory_reported
from pointrend.predict.frames import cropped, cropped_cells, last_resizes
from pointrend.predict.options import PredictOptions
from pointrend.results import SemanticResult
from pointrend.spec import SemanticSpec, SemanticTest


class SemanticPredictor(Predictor[SemanticSpec, SemanticTest, SemanticOutput, SemanticResult]):
    """Labels every pixel; see `Predictor`."""

    network: SemanticNetwork
    result_type = SemanticResult
    does = "labels pixels"
    foreign: ClassVar = dict.fromkeys(("score_threshold", "max_detections", "adaptive"), "instance")
    max_steps = 8
    min_aspect = 0.0
    stages = ("coarse", "pointrend")

    @property
    def background(self) -> int | None:
        """The index of the class named "background", if there is one."""
        names = self.spec.class_names
        return names.index("background") if "background" in names else None

    def _settings(self, options: PredictOptions) -> SemanticTest:
        return self._overridden(self.spec.test, options)

    @torch.inference_mode()
    def predict(self, pixels: np.ndarray, path: Path | None = None) -> SemanticResult:
        """Return the labels of an image (H, W, 3) uint8 RGB that was read from `path`."""
        if self.options.single:
            encoded = self.encode(pixels)
            result = self._predicted(encoded, pixels, path)
            coarse = cropped_cells(self.network.start(encoded.output), encoded.frame)
        else:
            passes, coarse = rendered_passes(self, pixels, self.stages[-1:])
            result = self._fused(passes[self.stages[-1]], pixels, path)
        found = None if self.network.independent else certainty(coarse, self.background)
        result = replace(result, certainty=found)
        usual = self.spec.usual_certainty
        if usual is None or found is None or found >= usual:
            return result
        return result.noted(
            (
                f"{self.spec.name} is unsure of what it found (certainty {found:.2f}; {usual:.2f} or more is usual): "
                "the image may show something else than it was trained for",
            )
        )

    def _predicted(self, encoded: Encoded[SemanticOutput], pixels: np.ndarray, path: Path | None) -> SemanticResult:
        if not self.options.probabilities:
            return self.result(self.rendered_labels(encoded), pixels, path)
        if self.options.reference:
            logits = cropped(self.rendered_logits(encoded), encoded.frame).float()
            with memory_reported(encoded.frame.size):
                (logits,) = F.interpolate(logits, size=encoded.frame.size, mode="bilinear", align_corners=False)
            logits = torch.cat((-logits, logits)) / 2 if len(logits) == 1 else logits
            best_two = logits.softmax(dim=0).topk(2, dim=0).values
            return self.result(self.rendered_labels(encoded), pixels, path, best_two=best_two)
        rendering = self.rendering(encoded)
        best_two, _ = rendering.probabilities(2)
        return self.result(rendering.labels, pixels, path, best_two=best_two)

    @torch.inference_mode()
    def _fused(self, passes: Sequence[RenderedPass], pixels: np.ndarray, path: Path | None) -> SemanticResult:
        with memory_reported((pixels.shape[0], pixels.shape[1])):
            if not self.options.probabilities:
                return self.result(fused_labels(passes), pixels, path)
            best_two, labels = fused_probabilities(passes, 2)
        return self.result(labels[0], pixels, path, best_two=best_two)

    def compare(self, pixels: np.ndarray) -> dict[str, SemanticResult]:
        """Return the results of the coarse logits, upsampled bilinearly, and of the rendered ones."""
        if self.options.single:
            encoded = self.encode(pixels)
            labels = (self.coarse_labels(encoded), self.rendered_labels(encoded))
            return {stage: self.result(found, pixels, None) for stage, found in zip(self.stages, labels, strict=True)}
        passes, _ = rendered_passes(self, pixels, self.stages)
        return {stage: self._fused(of_stage, pixels, None) for stage, of_stage in passes.items()}

    def final(self, encoded: Encoded[SemanticOutput], pixels: np.ndarray) -> SemanticResult:
        """Return the rendered labels of an encoded image."""
        return self.result(self.rendered_labels(encoded), pixels, None)

    def resolution(self, steps: int) -> str:
        """Name the grid after some steps, as a ratio of the network's input."""
        return f"input x {Fraction(2**steps, 4)}"

    def result(
        self, labels: Tensor, pixels: np.ndarray, path: Path | None, *, best_two: Tensor | None = None
    ) -> SemanticResult:
        """Return the result with labels (H, W) of an image (H, W, 3)."""
        array: np.ndarray = labels.cpu().numpy()
        return SemanticResult(
            labels=array.astype(np.uint8 if len(self.spec.classes) <= 256 else np.uint16),
            classes=self.spec.classes,
            image=pixels,
            path=path,
            best_two=None if best_two is None else best_two.float().cpu().numpy(),
        )

    def _network_output(self, images: Tensor, frame: Frame) -> SemanticOutput:
        output: SemanticOutput = self.network(images)
        return output

    @torch.inference_mode()
    def rendered_labels(self, encoded: Encoded[SemanticOutput]) -> Tensor:
        """Return labels (H, W) of the image, rendered."""
        if self.options.reference:
            return self.image_labels(self.rendered_logits(encoded), encoded)
        return self._rendering(encoded, keep_logits=False).labels

    def rendering(self, encoded: Encoded[SemanticOutput], stage: str = stages[-1]) -> Rendering:
        """Return the rendering at the size of the frame's image, with logits kept; stage "coarse" is only resized."""
        if stage == self.stages[0]:
            return self._resized(self.network.whole(encoded.output), encoded.frame)
        if self.options.reference:
            return self._resized(self.rendered_logits(encoded), encoded.frame)
        return self._rendering(encoded, keep_logits=True)

    @torch.inference_mode()
    def _resized(self, logits: Tensor, frame: Frame) -> Rendering:
        """Return logits (1, C, ., .) of the padded input as a rendering without further points."""
        with memory_reported(frame.size):
            (found,) = renderings(
                logits,
                lambda points: points,
                Subdivision(1, 0),
                resizes=last_resizes(frame, (logits.shape[2], logits.shape[3])),
                keep_logits=True,
                independent=self.network.independent,
            )
        return found

    @torch.inference_mode()
    def _rendering(self, encoded: Encoded[SemanticOutput], *, keep_logits: bool) -> Rendering:
        coarse, subdivision = self.network.start(encoded.output), self.test.subdivision
        grid = (coarse.shape[2] << subdivision.steps, coarse.shape[3] << subdivision.steps)
        with memory_reported(encoded.frame.padded):
            (rendering,) = renderings(
                coarse,
                self.network.point_predictor(encoded.output),
                subdivision,
                resizes=last_resizes(encoded.frame, grid),
                keep_logits=keep_logits,
                independent=self.network.independent,
            )
        return rendering

    @torch.inference_mode()
    def subdivision_steps(self, encoded: Encoded[SemanticOutput]) -> Iterator[SubdivisionStep]:
        """Yield the steps of the reference renderer, in the frame of the padded input."""
        with memory_reported(encoded.frame.padded):
            yield from self.network.subdivision_steps(encoded.output, self.test.subdivision)

    def rendered_logits(self, encoded: Encoded[SemanticOutput]) -> Tensor:
        """Return logits (1, C, ., .) after the last subdivision step, of the padded input."""
        logits = self.network.start(encoded.output)
        for step in self.subdivision_steps(encoded):
            logits = step.logits
        return logits

    def coarse_labels(self, encoded: Encoded[SemanticOutput]) -> Tensor:
        """Return labels (H, W) from the coarse logits, upsampled bilinearly to the image."""
        return self.image_labels(self.network.whole(encoded.output), encoded)

    @torch.inference_mode()
    def image_labels(self, logits: Tensor, encoded: Encoded[SemanticOutput]) -> Tensor:
        """Return labels (H, W), int64, of the image from logits (1, C, ., .) of the padded input."""
        frame = encoded.frame
        with memory_reported(frame.size):
            return resized_labels(cropped(logits, frame), frame.size, independent=self.network.independent)[0]


def certainty(coarse: Tensor, background: int | None) -> float | None:
    """Return the mean probability of the best class over coarse pixels where that is not the background.

    Args:
        coarse: logits (1, C, h, w); one logit stands for the second of two classes.
        background: the index of that class, if there is one.

    Returns:
        A number in (0, 1], or None where everything is background.
    """
    logits = coarse.float()
    logits = torch.cat((torch.zeros_like(logits), logits), dim=1) if logits.shape[1] == 1 else logits
    best, label = logits.softmax(dim=1).max(dim=1)
    found = best if background is None else best[label != background]
    return float(found.mean()) if found.numel() else None
