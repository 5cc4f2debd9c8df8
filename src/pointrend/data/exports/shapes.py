"""Shapes of annotation tools as polygons, and what is said about those that are none."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

_CORNERS = 64
"""Corners of the polygon of an ellipse."""


class Counts:
    """What was left out of an export, or taken as something else."""

    def __init__(self) -> None:
        self.rectangles = 0
        self._others: Counter[str] = Counter()

    def left_out(self, kind: str) -> None:
        """Count a shape that covers no area, or something else that has no place in a data set."""
        self._others[kind] += 1

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each thing that came."""
        lines = [f"{count} of kind {kind} are left out: they cover no area" for kind, count in self._others.items()]
        if self.rectangles:
            lines.append(f"{self.rectangles} rectangles are taken as the outlines of objects")
        return tuple(lines)


def rectangle(
    left: float, top: float, right: float, bottom: float, degrees: float = 0, *, about_corner: bool = False
) -> list[float]:
    """Return the polygon of a rectangle, turned clockwise about its centre, or about its upper left corner."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return _turned(corners, corners[0] if about_corner else corners.mean(axis=0), degrees)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> list[float]:
    """Return a polygon of the area of an ellipse, turned clockwise about its centre."""
    angles = np.arange(_CORNERS) * (2 * math.pi / _CORNERS)
    # Its corners lie so far outside that its area is the ellipse's.
    outside = math.sqrt(2 * math.pi / _CORNERS / math.sin(2 * math.pi / _CORNERS))
    corners = np.array([x, y]) + outside * np.stack([radius_x * np.cos(angles), radius_y * np.sin(angles)], axis=1)
    return _turned(corners, np.array([x, y]), degrees)


def _turned(corners: np.ndarray, centre: np.ndarray, degrees: float) -> list[float]:
    """Turn a polygon (P, 2) about a centre, and return x, y, x, y, ..."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    moved: list[float] = ((corners - centre) @ turn + centre).ravel().tolist() if degrees else corners.ravel().tolist()
    return moved
