"""Shapes drawn by chance, and what they are filled with: exact masks without limit."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from pointrend.data.masks.corruptions import smooth_noise


def shape(size: int, random: np.random.Generator) -> np.ndarray:
    """Draw the mask of a shape, (size, size) float32 in [0, 1], 1 inside, with a sharp or a somewhat soft edge."""
    kind = random.integers(4)
    if kind == 0:
        drawn = smooth_noise((size, size), random.uniform(12, 90), random) > random.uniform(-0.3, 1.2)
    elif kind == 1:
        drawn = _wavy(size, random)
    else:
        drawn = _drawn(size, random, branching=kind == 3)
    mask = drawn.astype(np.float32)
    return ndimage.gaussian_filter(mask, random.uniform(0.4, 1.2)) if random.random() < 0.6 else mask


def _wavy(size: int, random: np.random.Generator) -> np.ndarray:
    """Return a disc whose outline is a sum of waves."""
    y, x = np.mgrid[:size, :size] - random.uniform(0.25, 0.75, 2)[:, None, None] * size
    angle, waves = np.arctan2(y, x), np.zeros((size, size))
    for _ in range(random.integers(2, 7)):
        frequency = random.integers(2, 24)
        waves += random.uniform(0, 0.35) / frequency**0.5 * np.sin(frequency * angle + random.uniform(0, 6.3))
    aspect = random.uniform(0.6, 1.6)
    return np.asarray(np.hypot(y * aspect, x / aspect) < size * random.uniform(0.12, 0.45) * (1 + waves))


def _drawn(size: int, random: np.random.Generator, *, branching: bool) -> np.ndarray:
    canvas = Image.new("L", (size, size))
    draw = ImageDraw.Draw(canvas)
    if not branching:
        corners = random.integers(3, 12)
        angles = np.sort(random.uniform(0, 2 * np.pi, corners))
        radii = random.uniform(0.15, 0.6, corners) * size
        middle = random.uniform(0.3, 0.7, 2) * size
        draw.polygon(
            [(middle[0] + r * np.cos(a), middle[1] + r * np.sin(a)) for a, r in zip(angles, radii, strict=True)], 1
        )
        return np.asarray(canvas) > 0
    ends = [(*random.uniform(0.2, 0.8, 2) * size, random.uniform(0, 6.3), random.uniform(4, 24))]
    for _ in range(random.integers(6, 30)):
        x, y, direction, width = ends[random.integers(len(ends))]
        direction += random.normal(0, 0.8)
        length = random.uniform(0.08, 0.3) * size
        to = x + length * np.cos(direction), y + length * np.sin(direction)
        draw.line((x, y, *to), 1, max(1, int(width)))
        draw.ellipse((to[0] - width / 2, to[1] - width / 2, to[0] + width / 2, to[1] + width / 2), 1)
        ends.append((*to, direction, max(1.5, width * random.uniform(0.6, 1.0))))
    return np.asarray(canvas) > 0


def filling(photo: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return what a shape is filled with, (H, W, 3) float32 in 0..255: a photograph, changed or not, or a ramp."""
    height, width = photo.shape[:2]
    kind = random.integers(4)
    filled = photo.astype(np.float32)
    if kind == 0:
        y, x = np.mgrid[:height, :width] / max(height, width)
        a, b = random.uniform(0, 255, (2, 3))
        turn = random.uniform(0, 6.3)
        filled = a + (b - a) * (x * np.cos(turn) + y * np.sin(turn))[..., None]
        return np.asarray(filled + random.normal(0, random.uniform(0, 8), filled.shape), np.float32)
    if kind == 1:
        filled = ndimage.gaussian_filter(filled, (*[random.uniform(2, 10)] * 2, 0))
    if kind != 2:
        filled = (filled - filled.mean()) * random.uniform(0.5, 1.2) + filled.mean((0, 1)) + random.normal(0, 40, 3)
    return np.asarray(filled, np.float32)
