"""Wrong masks made of true ones: what a refiner is given in training and in evaluations.

All functions take a mask (H, W) float32 in [0, 1], 1 inside, return one of the same kind, and change nothing in place.
Lengths are in pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from pointrend.data.masks.distances import distance

Corruption = Callable[[np.ndarray], np.ndarray]
"""Makes a wrong mask of a true one."""


def sharp(mask: np.ndarray) -> np.ndarray:
    """Cut a mask at 0.5."""
    return (mask > 0.5).astype(np.float32)


def coarse(mask: np.ndarray, factor: int, offset: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Average a mask over squares of `factor` pixels a side, and read it back by bilinear interpolation.

    The squares begin `offset` (rows, columns) before the mask does; a mask's last rows and columns go on beyond it.
    """
    height, width = mask.shape
    top, left = offset[0] % factor, offset[1] % factor
    bottom, right = -(height + top) % factor, -(width + left) % factor
    padded = torch.from_numpy(np.pad(mask, ((top, bottom), (left, right)), mode="edge"))[None, None]
    small = F.avg_pool2d(padded, factor)
    large = F.interpolate(small, size=padded.shape[2:], mode="bilinear", align_corners=False)
    return large[0, 0, top : top + height, left : left + width].numpy().copy()


def blurred(mask: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a mask by a Gaussian."""
    return np.asarray(ndimage.gaussian_filter(mask, sigma, mode="nearest", truncate=3.0), np.float32)


def grown(mask: np.ndarray, by: float) -> np.ndarray:
    """Move the outline of a mask outwards by a distance, inwards for a negative one; the result is sharp."""
    return (distance(mask) < by).astype(np.float32)


def polygon(mask: np.ndarray, tolerance: float | None = None, *, ratio: float = 0.01) -> np.ndarray:
    """Replace every outline of a mask by a polygon within `tolerance` of it; None: `ratio` of the outline's length."""
    canvas = Image.new("L", (mask.shape[1], mask.shape[0]))
    draw = ImageDraw.Draw(canvas)
    outlines = find_contours(np.pad(mask, 1), 0.5)
    loops = []
    for outline in outlines:
        length = np.hypot(*np.diff(outline, axis=0).T).sum()
        simple = approximate_polygon(outline, ratio * length if tolerance is None else tolerance)
        if len(simple) >= 4:
            row, column = outline[:-1].T
            area = 0.5 * float(np.dot(row, np.roll(column, -1)) - np.dot(column, np.roll(row, -1)))
            loops.append((area, [(float(x) - 1, float(y) - 1) for y, x in simple]))
    for area, points in sorted(loops, key=lambda loop: -abs(loop[0])):  # the inner ones last
        draw.polygon(points, fill=_side(mask, points, area))
    return np.asarray(canvas, np.float32)


def _side(mask: np.ndarray, points: list[tuple[float, float]], area: float) -> int:
    """Return 1 for the outline of a part and 0 for that of a hole; skimage has high values at the left of both."""
    return int(area < 0)


def boxed(mask: np.ndarray) -> np.ndarray:
    """Fill the bounding box of every connected part."""
    result = np.zeros_like(mask)
    for part in ndimage.find_objects(ndimage.label(mask > 0.5)[0]):
        result[part] = 1
    return result


def shifted(mask: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """Move a mask by rows and columns; the pixels that this leaves open repeat the nearest border pixel."""
    return np.asarray(ndimage.shift(mask, (rows, columns), order=1, mode="nearest"), np.float32).clip(0, 1)


def displaced(mask: np.ndarray, amplitude: float, scale: float, random: np.random.Generator) -> np.ndarray:
    """Move the outline of a mask in and out by smooth noise: `amplitude` is its deviation, `scale` its length."""
    noise = smooth_noise(mask.shape, scale, random)
    return (distance(mask) < amplitude * noise).astype(np.float32)


def with_part(mask: np.ndarray, radius: float, random: np.random.Generator, *, add: bool) -> np.ndarray:
    """Add a blob of about a radius at a random place of the outline, or take one away."""
    rows, columns = np.nonzero(np.abs(distance(mask)) < 1)
    if len(rows) == 0:
        return mask.copy()
    index = random.integers(len(rows))
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    stretch = random.uniform(0.6, 1.6)
    reach = np.hypot((y - rows[index]) * stretch, (x - columns[index]) / stretch)
    blob = reach < radius * (1 + 0.3 * smooth_noise(mask.shape, max(4.0, radius / 2), random))
    return np.where(blob, np.float32(add), mask)


def smooth_noise(size: tuple[int, ...], scale: float, random: np.random.Generator) -> np.ndarray:
    """Return smooth noise (H, W) of mean 0 and deviation 1 whose bumps are about `scale` pixels wide."""
    step = max(1, int(scale / 2))  # drawn on a coarser grid: a wide blur takes as long as all else
    small = random.standard_normal((size[0] // step + 4, size[1] // step + 4)).astype(np.float32)
    small = ndimage.gaussian_filter(small, scale / 2 / step)
    large = torch.from_numpy(small)[None, None]
    large = F.interpolate(large, scale_factor=step, mode="bilinear", align_corners=False) if step > 1 else large
    noise = large[0, 0, : size[0], : size[1]].numpy()
    return np.asarray((noise - noise.mean()) / max(1e-6, float(noise.std())), np.float32)


CORRUPTIONS: dict[str, Corruption] = {
    "true": sharp,
    "x8": lambda mask: sharp(coarse(mask, 8)),
    "x16": lambda mask: sharp(coarse(mask, 16)),
    "x32": lambda mask: sharp(coarse(mask, 32)),
    "x32-soft": lambda mask: coarse(mask, 32),
    "dilated": lambda mask: grown(mask, 8),
    "eroded": lambda mask: grown(mask, -4),
    "polygon": polygon,
}
"""Of evaluations, by name: down-sampling by a factor, the outline moved by 8 and by -4 pixels, polygons within 1 %."""


def nearly_true(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the truth, or the truth moved by a pixel or less; sharp or a little soft."""
    kind = random.integers(4)
    if kind == 0:
        moved = sharp(mask)
    elif kind == 1:
        moved = sharp(shifted(mask, *random.uniform(-0.9, 0.9, 2)))
    elif kind == 2:
        moved = grown(mask, random.uniform(-1, 1))
    else:
        moved = displaced(mask, 0.5, random.uniform(6, 40), random)
    return blurred(moved, random.uniform(0.4, 2.0)) if random.random() < 0.5 else moved


def corrupted(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a mask that is wrong in a way drawn by chance: sharp, soft, or wrong twice."""
    wrong = _wrong(mask, random)
    if random.random() < 0.25:
        wrong = _wrong(wrong, random)
    if random.random() < 0.35:
        return sharp(wrong)
    return blurred(wrong, random.uniform(0.4, 3.0)) if random.random() < 0.3 else wrong


def _wrong(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    kind = random.choice(len(_KINDS), p=_SHARES)
    return _KINDS[kind][1](mask, random)


def _coarse(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    factor = round(2 ** random.uniform(2, 5))
    soft = coarse(mask, factor, (int(random.integers(factor)), int(random.integers(factor))))
    return sharp(soft) if random.random() < 0.5 else soft


def _cut(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Blur a mask and cut it anywhere: corners get round, thin parts vanish or grow."""
    soft = blurred(mask, random.uniform(2, 12))
    return (soft > random.uniform(0.25, 0.75)).astype(np.float32)


_KINDS: tuple[tuple[float, Callable[[np.ndarray, np.random.Generator], np.ndarray]], ...] = (
    (0.34, _coarse),
    (0.12, lambda mask, random: grown(mask, random.uniform(1.5, 12))),
    (0.12, lambda mask, random: grown(mask, -random.uniform(1.5, 8))),
    (0.06, _cut),
    (0.05, lambda mask, random: blurred(mask, random.uniform(2, 10))),
    (0.11, lambda mask, random: polygon(mask, random.uniform(1.5, 10))),
    (0.06, lambda mask, random: shifted(mask, *random.normal(0, 4, 2))),
    (0.05, lambda mask, random: displaced(mask, random.uniform(1.5, 6), random.uniform(8, 60), random)),
    (0.04, lambda mask, random: with_part(mask, random.uniform(4, 30), random, add=True)),
    (0.04, lambda mask, random: with_part(mask, random.uniform(4, 30), random, add=False)),
    (0.01, lambda mask, random: boxed(mask)),
)
_SHARES = np.array([share for share, _ in _KINDS])
