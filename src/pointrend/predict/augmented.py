"""Predict labels in several passes: at several scales, mirrored, and in sliding windows.

As mmsegmentation does it: each pass is rendered on its own, its logits are resized to the image, and the mean of the
passes' probabilities gives the labels. In windows, logits are averaged before they are resized to the image.

Shapes: H W the image's own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pointrend.core import RenderedPass, Rendering, Resize, mean_of_windows, resized
from pointrend.inputs import normalised, padded, test_size
from pointrend.predict.augmentation import Pass
from pointrend.predict.base import memory_reported
from pointrend.predict.frames import cropped_cells

if TYPE_CHECKING:
    from pointrend.predict.semantic import SemanticPredictor


@torch.inference_mode()
def rendered_passes(
    predictor: SemanticPredictor, pixels: np.ndarray, stages: Sequence[str]
) -> tuple[dict[str, list[RenderedPass]], Tensor]:
    """Return all passes of an image (H, W, 3) uint8 RGB by the name of the stage, and coarse logits (1, C, ., .).

    These are the plain pass's, of all its windows, without padding. Of each pass only its coarse logits and its points
    are kept; what lies between is computed when it is asked for.
    """
    augmentation = predictor.options.augmentation
    passes: dict[str, list[RenderedPass]] = {stage: [] for stage in stages}
    cells: list[Tensor] = []
    for one in augmentation.passes:
        # Other passes' coarse logits are not copied: they are large.
        renderings = _rendered(predictor, pixels, one, stages, cells if one == augmentation.plain else None)
        for stage, rendering in renderings.items():
            passes[stage].append(RenderedPass(rendering, one.mirrored))
    return passes, torch.cat(cells, dim=2).unsqueeze(3)


def _rendered(
    predictor: SemanticPredictor, pixels: np.ndarray, one: Pass, stages: Sequence[str], cells: list[Tensor] | None
) -> dict[str, Rendering]:
    """Return the renderings of a pass at the image's size, mirrored if the pass is.

    Coarse logits (1, C, .) of each window are appended to `cells`, if that is given.
    """
    spec, slide = predictor.spec, predictor.options.slide
    size, test = (pixels.shape[0], pixels.shape[1]), predictor.test.scaled(one.scale)
    seen = test_size(size, test)
    image = normalised(np.fliplr(pixels).copy() if one.mirrored else pixels, seen, spec.input)
    windows = [(0, 0, seen[1], seen[0])] if slide is None else slide.windows(seen)
    parts: dict[str, list[Rendering]] = {stage: [] for stage in stages}
    for left, top, right, bottom in windows:
        wanted = size if slide is None else (bottom - top, right - left)
        encoded = predictor.encode_input(*padded(image[:, top:bottom, left:right], test.pad_multiple, wanted))
        for stage in stages:
            parts[stage].append(_trimmed(predictor.rendering(encoded, stage)))
        if cells is not None:
            cells.append(cropped_cells(predictor.network.start(encoded.output), encoded.frame).flatten(2))
    if slide is None:
        return {stage: found for stage, (found,) in parts.items()}
    with memory_reported(size):
        return {
            stage: _trimmed(resized(mean_of_windows(found, windows, seen), Resize(size)))
            for stage, found in parts.items()
        }


def _trimmed(rendering: Rendering) -> Rendering:
    rendering.trim()
    return rendering
