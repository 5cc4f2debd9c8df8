"""The bundled refiner makes coarse masks crisp and leaves true ones alone, on drawn scenes that it never saw."""

from __future__ import annotations

import numpy as np
import pytest
from miniatures import draw_scene

import pointrend
from pointrend.data.masks.corruptions import CORRUPTIONS
from pointrend.refining.scoring import mask_scores

SCENES = (3, 8)


def scores(kind: str) -> tuple[float, float]:
    """Mean Boundary IoU (0.5 %) of masks of a kind, given and refined."""
    rows = []
    for seed in SCENES:
        image, labels = draw_scene(seed, 320)
        truth = np.asarray(labels) > 0
        result = pointrend.refine(image, CORRUPTIONS[kind](truth.astype(np.float32)), kind="probabilities")
        rows.append([mask_scores(mask, truth)["boundary_iou_05"] for mask in (result.given != 0, result.mask)])
    given, refined = np.mean(rows, axis=0)
    return float(given), float(refined)


@pytest.mark.parametrize(("kind", "gain"), [("x16", 15), ("x32-soft", 30), ("eroded", 40)])
def test_coarse_masks_get_crisp(kind: str, gain: float) -> None:
    given, refined = scores(kind)
    assert refined > given + gain


def test_true_masks_are_kept() -> None:
    given, refined = scores("true")
    assert given == 100
    assert refined > 97
