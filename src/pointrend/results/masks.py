"""Compute the masks of many objects when they are read.

Shapes: R instances, M M the masks' grid, H W the image, h w a window of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args, overload

import numpy as np
import torch
from contourpy import FillType, contour_generator
from pycocotools import mask as rle_masks

from pointrend.core.pasting import Paste, Window, paste_mask
from pointrend.rle import Rle


class LazyMasks(Sequence[np.ndarray]):
    """R masks (H, W) bool, stored by their boxes.

    `masks[i]` is one at full size; a thousand of them for 8 megapixels would be 8 GB. The methods compute in the box
    alone. Nothing is cached.

    Args:
        probabilities: (R, M, M), any floating type, in the boxes.
        boxes: (R, 4), xyxy in pixels of the image. A mask is empty if its box has no area or is outside.
        size: (H, W) of the image.
        paste: how pixels read the mask, see `core.pasting.paste_mask`.
        threshold: pixels of at least this probability belong to the object.

    Raises:
        ValueError: shapes or types are not as above, or a box is not finite.
    """

    def __init__(
        self,
        probabilities: np.ndarray,
        boxes: np.ndarray,
        size: tuple[int, int],
        *,
        paste: Paste = "area",
        threshold: float = 0.5,
    ) -> None:
        if (
            probabilities.ndim != 3
            or probabilities.shape[1] != probabilities.shape[2]
            or boxes.shape != (len(probabilities), 4)
        ):
            raise ValueError(
                f"expected probabilities (R, M, M) and boxes (R, 4), got {probabilities.shape} and {boxes.shape}"
            )
        if probabilities.dtype.kind != "f":
            raise ValueError(f"probabilities must be of a floating type, got {probabilities.dtype}")
        if not np.isfinite(boxes).all():
            raise ValueError(f"boxes must be finite, got {boxes[~np.isfinite(boxes).all(axis=1)][0].tolist()}")
        if paste not in get_args(Paste):
            raise ValueError(f"paste must be one of {', '.join(get_args(Paste))}, got {paste!r}")
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be over 0 and at most 1, got {threshold}")
        self.probabilities = probabilities
        self.boxes = boxes
        self.size = size
        self.paste: Paste = paste
        self.threshold = threshold

    def __len__(self) -> int:
        return len(self.probabilities)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray) -> LazyMasks: ...
    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray | LazyMasks:
        """Return the mask (H, W) bool of one instance; of a slice, of indices or of a boolean array, lazy masks."""
        if isinstance(index, (slice, np.ndarray)):
            return LazyMasks(
                self.probabilities[index], self.boxes[index], self.size, paste=self.paste, threshold=self.threshold
            )
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} masks, got {index}")
        (left, top, right, bottom), inside = self.crop(index)
        mask = np.zeros(self.size, bool)
        mask[top:bottom, left:right] = inside
        return mask

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def crop(self, index: int) -> tuple[Window, np.ndarray]:
        """Return the window of the image that a mask may touch, and the mask (h, w) bool in it."""
        window, probabilities = paste_mask(
            torch.from_numpy(self.probabilities[index]),
            torch.from_numpy(self.boxes[index]),
            self.size,
            mode=self.paste,
        )
        inside: np.ndarray = (probabilities >= self.threshold).numpy()
        return window, inside

    def area(self, index: int) -> int:
        """Return the number of pixels of a mask."""
        return int(self.crop(index)[1].sum())

    def rle(self, index: int) -> Rle:
        """Return the compressed RLE of a mask (H, W)."""
        (left, top, right, bottom), inside = self.crop(index)
        height, width = self.size
        # Runs go down the columns, so columns outside of the window are only counted.
        columns = np.zeros((height, right - left), np.uint8, order="F")
        columns[top:bottom] = inside
        runs = _runs(columns)
        runs[0] += left * height
        if len(runs) % 2:
            runs[-1] += (width - right) * height
        elif right < width:
            runs.append((width - right) * height)
        encoded = rle_masks.frPyObjects({"size": [height, width], "counts": runs}, height, width)
        return Rle(size=[height, width], counts=encoded["counts"].decode("ascii"))

    def polygons(self, index: int) -> list[list[float]]:
        """Return COCO's polygons, [x, y, x, y, ...] each, one for every part of the mask.

        They follow the edges of its pixels and cut corners by half a pixel, and pycocotools rasterises them to the same
        pixels. COCO's polygons cannot have holes; `rle` keeps them.
        """
        (left, top, _, _), inside = self.crop(index)
        if not inside.any():
            return []
        padded = np.pad(inside, 1).astype(np.float64)
        contours = contour_generator(z=padded, fill_type=FillType.OuterCode).filled(0.5, 1.5)
        polygons = []
        for points, codes in zip(*contours, strict=True):
            # Code 1 starts a ring, of which the first is the outer one.
            ends = np.flatnonzero(codes == 1)
            outer = points[: ends[1]] if len(ends) > 1 else points
            # Pixel i of the padded window has its centre at i, which is (i - 1) + 0.5 from the window's edge.
            polygons.append((outer[:-1] + np.array((left - 0.5, top - 0.5))).round(2).ravel().tolist())
        return [polygon for polygon in polygons if len(polygon) >= 6]


def _runs(columns: np.ndarray) -> list[int]:
    """Return the lengths of runs of 0, 1, 0, ... down the columns (h, w); the first may be 0."""
    flat = columns.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate(([0], changes, [len(flat)]))
    runs: list[int] = np.diff(bounds).tolist()
    return [0, *runs] if len(flat) and flat[0] else runs
