"""Predict classes that do not exclude each other: a pixel has several of them or none."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from pointrend.predict.semantic import SemanticPredictor
from pointrend.results import MultiLabelResult


class MultiLabelPredictor(SemanticPredictor):
    """Finds the pixels of each class; see `Predictor`."""

    result_type = MultiLabelResult
    does = "labels pixels with any number of classes"
    # Both are of classes that exclude each other.
    foreign: ClassVar = {**SemanticPredictor.foreign, "augmentation": "semantic", "probabilities": "semantic"}

    def result(
        self, labels: Tensor, pixels: np.ndarray, path: Path | None, *, best_two: Tensor | None = None
    ) -> MultiLabelResult:
        """Return the result with labels (H, W), a bit a class, of an image (H, W, 3)."""
        assert best_two is None
        found: np.ndarray = labels.cpu().numpy()
        return MultiLabelResult(labels=found.astype(np.int32), classes=self.spec.classes, image=pixels, path=path)
