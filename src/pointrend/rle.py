"""The type of COCO's RLE."""

from __future__ import annotations

from typing import TypedDict


class Rle(TypedDict):
    """A mask in COCO's compressed run-length encoding, serialisable as JSON."""

    size: list[int]
    """[H, W]."""
    counts: str
