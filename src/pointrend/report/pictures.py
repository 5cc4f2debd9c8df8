"""Pictures of a report, as addresses that hold the picture itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pointrend.data.classes import ClassInfo
from pointrend.viz import brightened, is_background

EDGE = 288
"""Pixels of a picture's longest edge; windows are enlarged by whole numbers where they are smaller."""
ALPHA = 0.55


def picture(pixels: np.ndarray) -> str:
    """Return an image (h, w, 3) uint8 as a data address."""
    return _address(Image.fromarray(brightened(pixels)))


def labels_picture(photo: np.ndarray, labels: np.ndarray, classes: Sequence[ClassInfo]) -> str:
    """Return labels (h, w) drawn over an image (h, w, 3), with sharp outlines, as a data address."""
    factor = _factor(labels.shape)
    large = np.kron(labels, np.ones((factor, factor), labels.dtype))
    pixels = np.kron(brightened(photo), np.ones((factor, factor, 1), np.uint8)).astype(np.float32)
    colors = np.zeros((256, 3), np.float32)
    alphas = np.zeros((256, 1), np.float32)
    for index, info in enumerate(classes[:255]):
        colors[index] = info.color
        alphas[index] = 0 if is_background(index, info) else ALPHA
    colors[255], alphas[255] = 128, 0.8  # ignored
    alpha = alphas[large]
    drawn = (1 - alpha) * pixels + alpha * colors[large]
    edge = np.zeros(large.shape, bool)
    edge[1:] |= large[1:] != large[:-1]
    edge[:, 1:] |= large[:, 1:] != large[:, :-1]
    drawn[edge] = 255
    return _address(Image.fromarray(drawn.round().astype(np.uint8)))


def _factor(shape: tuple[int, ...]) -> int:
    return max(1, EDGE // max(shape[:2]))


def _address(image: Image.Image) -> str:
    factor = _factor((image.height, image.width))
    if factor > 1:
        image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    image.thumbnail((2 * EDGE, 2 * EDGE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
