"""Signed distances to the outlines of masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

FAR = 1e4
"""The distance of every pixel where there is no outline."""


def distance(mask: np.ndarray) -> np.ndarray:
    """Return signed distances (H, W) to the outline of `mask > 0.5`, negative inside; `FAR` without an outline."""
    inside = mask > 0.5
    if inside.all() or not inside.any():
        return np.full(mask.shape, -FAR if inside.any() else FAR, np.float32)
    outer, inner = ndimage.distance_transform_edt(~inside), ndimage.distance_transform_edt(inside)
    return np.asarray(np.where(inside, 0.5 - inner, outer - 0.5), np.float32)
