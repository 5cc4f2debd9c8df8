"""COCO's run lengths as a type."""

from __future__ import annotations

from typing import TypedDict


class Rle(TypedDict):
    """A mask in COCO's compressed run-length encoding, ready for JSON."""

    size: list[int]
    """[H, W]."""
    counts: str
