"""Conversion of data sets' masks (polygons, RLE, bitmaps) to bool arrays, and of those to RLE.

Shapes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle_masks

from pointrend.data.problems import DatasetError
from pointrend.errors import shown
from pointrend.rle import Rle

MAX_OUTLINE = 10_000_000
"""Maximum length of the outlines of one object, in pixels."""

Segmentation = Sequence[Sequence[float]] | Mapping[str, object] | np.ndarray
"""COCO's polygons ([[x, y, x, y, ...], ...]) or RLE ({"size", "counts"}), or a bitmap (H, W)."""


def to_mask(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """Decode a segmentation to a mask (H, W) bool as pycocotools does.

    Args:
        segmentation: polygons, whose union is taken; RLE, compressed (text or bytes) or not (a list of numbers); or a
            bitmap.
        size: (H, W) of the image.

    Raises:
        DatasetError: the segmentation is malformed or does not fit the size.
    """
    if isinstance(segmentation, np.ndarray):
        if segmentation.shape != size:
            raise DatasetError(f"a bitmap must have the image's size {size}, got {segmentation.shape}")
        bitmap: np.ndarray = segmentation != 0
        return bitmap
    if isinstance(segmentation, Mapping):
        return _decode(_compressed(segmentation, size))
    return _from_polygons(segmentation, size)


def without_strays(segmentation: Any) -> Any:
    """Return a segmentation without its polygons of one or two points, if it has others: they cover no pixel."""
    if not isinstance(segmentation, list):
        return segmentation
    kept = [part for part in segmentation if not isinstance(part, list) or len(part) not in (2, 4)]
    return kept or segmentation


def mask_to_rle(mask: np.ndarray) -> Rle:
    """Encode a mask (H, W) as COCO's compressed RLE."""
    if mask.ndim != 2:
        raise DatasetError(f"a mask must be (H, W), got {mask.shape}")
    encoded = rle_masks.encode(np.asfortranarray(mask, dtype=np.uint8))
    return Rle(size=[int(n) for n in encoded["size"]], counts=encoded["counts"].decode("ascii"))


def _decode(rle: Mapping[str, object]) -> np.ndarray:
    mask: np.ndarray = rle_masks.decode(rle).astype(bool)
    return mask


def _compressed(rle: Mapping[str, object], size: tuple[int, int]) -> Mapping[str, object]:
    if not {"size", "counts"} <= set(rle):
        raise DatasetError(f"RLE must have 'size' and 'counts', got {shown(', '.join(sorted(map(str, rle))))}")
    counts, stated = rle["counts"], rle["size"]
    if not isinstance(stated, Sequence) or list(stated) != list(size):
        raise DatasetError(f"RLE must have the image's size {list(size)}, got {shown(str(stated))}")
    if isinstance(counts, (str, bytes)):
        encoded = counts.encode("latin1", "replace") if isinstance(counts, str) else counts
        _check_total(_uncompressed(encoded), size)
        return {"size": list(size), "counts": encoded}
    if not isinstance(counts, Sequence) or not all(type(n) is int and 0 <= n < 2**40 for n in counts):
        raise DatasetError("RLE counts must be text, bytes, or a list of numbers of pixels")
    _check_total(counts, size)
    compressed: Mapping[str, object] = rle_masks.frPyObjects({"size": list(size), "counts": list(counts)}, *size)
    return compressed


def _check_total(counts: Sequence[int], size: tuple[int, int]) -> None:
    # pycocotools accesses memory out of bounds if these disagree.
    if sum(counts) != size[0] * size[1] or any(n < 0 for n in counts):
        raise DatasetError(f"RLE counts must add up to {size[0] * size[1]} pixels, got {sum(counts)}")


def _uncompressed(counts: bytes) -> list[int]:
    """Decode compressed RLE counts: 5 bits a character; from the fourth number on, relative to the last but one."""
    numbers: list[int] = []
    value = shift = 0
    for byte in counts:
        part = byte - 48
        if not 0 <= part < 64:
            raise DatasetError("invalid character in compressed RLE counts")
        value |= (part & 0x1F) << shift
        shift += 5
        if shift > 60:  # no image has so many pixels
            raise DatasetError("a number in compressed RLE counts is too large")
        if part & 0x20:
            continue
        if part & 0x10:
            value -= 1 << shift
        numbers.append(value + numbers[-2] if len(numbers) > 2 else value)
        value = shift = 0
    if shift:
        raise DatasetError("compressed RLE counts end in the middle of a number")
    return numbers


def _from_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    if isinstance(polygons, (str, bytes)) or not isinstance(polygons, Sequence):
        raise DatasetError(f"a segmentation must be polygons, RLE or a bitmap, got {type(polygons).__name__}")
    checked, outline = [], 0.0
    for polygon in polygons:
        try:
            if not isinstance(polygon, Sequence) or isinstance(polygon, (str, bytes)):
                raise TypeError
            values = np.asarray(polygon, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise DatasetError("a polygon must be a list of numbers x, y, x, y, ...") from error
        if values.ndim != 1 or len(values) < 6 or len(values) % 2:
            raise DatasetError(f"a polygon must be x, y of at least three points, got {values.size} numbers")
        if not (np.isfinite(values).all() and np.abs(values).max() < 1e6):
            raise DatasetError("a polygon must have finite coordinates near the image")
        if values.min() >= 0 and values.max() <= 1 and (values % 1).any():
            raise DatasetError("a polygon has all coordinates in 0..1; multiply them by the image's width and height")
        outline += float(np.abs(np.diff(values.reshape(-1, 2), axis=0)).max(axis=1).sum())
        if outline > MAX_OUTLINE:  # pycocotools' memory grows with it
            raise DatasetError(f"the polygons' outlines are longer than {MAX_OUTLINE} pixels")
        checked.append(values.tolist())
    if not checked:
        return np.zeros(size, dtype=bool)
    return _decode(rle_masks.merge(rle_masks.frPyObjects(checked, *size)))
