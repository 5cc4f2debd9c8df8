"""The predictor of refiners: masks in, masks out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from pointrend.errors import PointRendError
from pointrend.inputs import Frame
from pointrend.predict.base import Predictor, memory_reported
from pointrend.predict.options import PredictOptions
from pointrend.predict.refining.passes import Advance, Refined, refine_plane
from pointrend.results import Result
from pointrend.spec import RefinerSpec, RefinerTest


class RefinerPredictor(Predictor[RefinerSpec, Any, Any, Result]):
    """Refines masks with a model's own settings, or others."""

    result_type = Result
    does = "refines masks"
    foreign = dict.fromkeys(
        ("score_threshold", "max_detections", "adaptive", "slide", "probabilities", "augmentation"), "segmentation"
    )
    max_steps = 2
    min_aspect = 1.0

    test: RefinerTest

    def _settings(self, options: PredictOptions) -> RefinerTest:
        return self.spec.test

    def with_settings(self, test: RefinerTest) -> RefinerPredictor:
        """Return a predictor with other settings."""
        other = type(self)(self.network, self.spec)
        other.test = test
        return other

    def refine(self, pixels: np.ndarray, given: Tensor, advance: Advance | None = None) -> Refined:
        """Refine a mask (H, W) float32 of probabilities in the plane of an image (H, W, 3) uint8 RGB."""
        image = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(2, 0, 1)
        with memory_reported((pixels.shape[0], pixels.shape[1])):
            return refine_plane(self.network, image, given, self.test, self.normalised, advance)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return the network's input (K, 3, h, w) of pixels (K, 3, h, w) uint8."""
        input = self.spec.input
        pixels = pixels.flip(1) if input.channels == "bgr" else pixels
        mean, std = (pixels.new_tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (input.mean, input.std))
        return (pixels.float() - mean) / std

    def predict(self, pixels: np.ndarray, path: Path | None = None) -> NoReturn:
        """Raise `PointRendError`: an image alone has no mask to refine."""
        raise PointRendError(f"{self.spec.name} refines masks, and was given none")

    def compare(self, pixels: np.ndarray) -> NoReturn:
        """Raise `PointRendError`, as `predict`."""
        self.predict(pixels)

    def _network_output(self, images: Tensor, frame: Frame) -> Any:
        return self.network(images)
