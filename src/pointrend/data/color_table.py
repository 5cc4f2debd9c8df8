"""Colours of classes in label images: from `classes.json`, or from the `labelmap.txt` of CVAT and of Pascal's tools."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pointrend.data.classes import (
    CLASSES_FILE,
    IGNORE,
    ClassInfo,
    Color,
    find_classes_file,
    named_classes,
    read_classes_file,
)
from pointrend.data.problems import DatasetError
from pointrend.errors import shown

LABELMAP_FILE = "labelmap.txt"
IGNORED_NAMES = ("ignored", "ignore", "void")
"""Labels of a `labelmap.txt` that count nowhere; Pascal VOC's outlines are such."""
_LINE = re.compile(r"(?P<name>[^:]+):(?P<color>\s*\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\s*)(:[^:]*){0,2}")


@dataclass(frozen=True, eq=False)
class ColorTable:
    """The classes of label images whose pixels have the colours of classes.

    Two classes must not have the same colour.
    """

    classes: tuple[ClassInfo, ...]
    """In the order of the file, with ignored ones."""
    source: Path
    """The file, for messages."""
    others_ignored: bool = False
    """Whether colours that are not listed count as ignored, instead of being errors."""

    def __post_init__(self) -> None:
        seen: dict[Color, str] = {}
        for info in self.classes:
            if info.color in seen:
                raise DatasetError(
                    f"{self.source}: {info.name!r} and {seen[info.color]!r} have the same colour {info.color}, so that "
                    "they cannot be told apart in label images"
                )
            seen[info.color] = info.name

    @cached_property
    def counted(self) -> tuple[ClassInfo, ...]:
        """The classes that are not ignored, in the order of their train ids."""
        return tuple(info for info in self.classes if not info.ignore)

    @cached_property
    def _codes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sorted numbers (K,) of the colours, and their train ids (K,) uint8."""
        codes = np.array([_code(info.color) for info in self.classes], np.int32)
        ids = np.array([IGNORE if info.ignore else self.counted.index(info) for info in self.classes], np.uint8)
        order = np.argsort(codes)
        return codes[order], ids[order]

    def labels(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the train ids (H, W) uint8 of colours (H, W, 3) uint8, and where no class has the colour, bool."""
        codes, ids = self._codes
        found = (pixels.astype(np.int32) * (65536, 256, 1)).sum(axis=2, dtype=np.int32)
        place = np.minimum(np.searchsorted(codes, found), len(codes) - 1)
        unknown = codes[place] != found
        return np.where(unknown, np.uint8(IGNORE), ids[place]), unknown & (not self.others_ignored)

    def unknown_color(self, color: Iterable[int], pixels: int) -> str:
        """Return what is wrong with a colour that no class has, for messages."""
        red, green, blue = (int(value) for value in color)
        near = min(
            self.classes, key=lambda info: sum(abs(a - b) for a, b in zip(info.color, (red, green, blue), strict=True))
        )
        return (
            f"colour ({red}, {green}, {blue}) of {pixels} pixels is of no class in {self.source.name}; the nearest is "
            f"{near.name!r} {near.color}; list the colour, or ignore all others by a class "
            '{"name": "other", "ignore": true} without a colour in ' + CLASSES_FILE
        )


def _code(color: Color) -> int:
    return color[0] * 65536 + color[1] * 256 + color[2]


def find_color_table(folder: Path) -> ColorTable | None:
    """Read the colours of classes from `classes.json` or `labelmap.txt` in `folder` or its parent; None without either.

    In `classes.json` every class needs a colour, but one that is ignored: it takes all colours that are not listed.

    Raises:
        DatasetError: the file is damaged, or a class has no colour or that of another.
    """
    if (path := find_classes_file(folder)) is not None:
        return _of_classes_file(path)
    folder = folder.resolve()
    found = [path for path in (folder / LABELMAP_FILE, folder.parent / LABELMAP_FILE) if path.is_file()]
    return read_labelmap(found[0]) if found else None


def _of_classes_file(path: Path) -> ColorTable:
    listed = read_classes_file(path)
    colorless = [info for info, stated in zip(listed.classes, listed.colored, strict=True) if not stated]
    if missing := [info.name for info in colorless if not info.ignore]:
        raise DatasetError(
            f"{path}: {missing[0]!r} has no colour, but label images are in colours; write "
            f'{{"name": {missing[0]!r}, "color": [R, G, B]}}, or save label images with one channel of class indices'
        )
    kept = tuple(info for info in listed.classes if info not in colorless)
    return ColorTable(kept, path, others_ignored=bool(colorless))


def read_labelmap(path: Path) -> ColorTable:
    """Read a `labelmap.txt`: a line `name:red,green,blue:parts:actions` for each label, and comments after `#`.

    Labels named as in `IGNORED_NAMES` are ignored.

    Raises:
        DatasetError: a line is something else, or no label is left.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as text ({error})") from error
    colors: dict[str, Color] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        color = [int(value) for value in match["color"].split(",")] if match else []
        if match is None or max(color) > 255:
            raise DatasetError(f"{path}: line {number} must be name:red,green,blue:: (0 to 255), got {shown(line)}")
        name = match["name"].strip()
        if name in colors:
            raise DatasetError(f"{path}: line {number} lists {shown(name)} a second time")
        colors[name] = (color[0], color[1], color[2])
    if not [name for name in colors if name.lower() not in IGNORED_NAMES]:
        raise DatasetError(f"{path}: lists no label")
    try:
        names = [info.name for info in named_classes(list(colors))]
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    classes = tuple(ClassInfo(name, colors[name], name.lower() in IGNORED_NAMES) for name in names)
    return ColorTable(classes, path)
