"""Specks: small parts of masks, and small holes in them."""

from __future__ import annotations

import numpy as np


def without_specks(mask: np.ndarray, least: int) -> np.ndarray:
    """Return a mask (H, W) bool without parts of fewer than `least` pixels, and with such holes filled.

    Pixels that touch at a corner alone are of different parts. What reaches the image's border is no hole.
    """
    if least <= 1:
        return mask
    mask = mask & ~_small_parts(mask, least, enclosed=False)
    return np.asarray(mask | _small_parts(~mask, least, enclosed=True), bool)


def soft_without_specks(soft: np.ndarray, least: int) -> np.ndarray:
    """Return a soft mask (H, W) float32 that is 0 or 1 where `without_specks` changes the mask of what is above 0.5."""
    mask = soft > 0.5
    cleaned = without_specks(mask, least)
    return np.where(cleaned == mask, soft, cleaned.astype(np.float32))


def _small_parts(mask: np.ndarray, least: int, *, enclosed: bool) -> np.ndarray:
    from scipy import ndimage

    parts, _ = ndimage.label(mask)
    small = np.bincount(parts.ravel()) < least
    small[0] = False  # what is not of the mask
    if enclosed:
        small[np.unique(np.concatenate((parts[0], parts[-1], parts[:, 0], parts[:, -1])))] = False
    return np.asarray(small[parts], bool)
