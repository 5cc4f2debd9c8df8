"""Class names and colours, from `classes.json` or of published data sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pointrend.data.json_files import read_json
from pointrend.data.problems import DatasetError
from pointrend.errors import PointRendError, plain_text, shown

IGNORE = 255
"""The label value of pixels without a class: they are neither trained on nor scored."""

Color = tuple[int, int, int]

CLASSES_FILE = "classes.json"
EXAMPLE = '["background", "cat", {"name": "dog", "color": [255, 0, 0]}, {"name": "unsure", "ignore": true}]'
_KEYS = ("name", "color", "ignore", "value")


@dataclass(frozen=True)
class ClassInfo:
    """A class of a data set. `color` is RGB in 0..255; pixels of an `ignore` class are not scored.

    Raises:
        DatasetError: the name cannot be shown (see `plain_text`), or the colour is none.
    """

    name: str
    color: Color
    ignore: bool = False

    def __post_init__(self) -> None:
        _named(self.name)
        if len(self.color) != 3 or not all(0 <= value <= 255 for value in self.color):
            raise DatasetError(f"a colour must be three integers in 0..255, got {shown(self.color)}")


def _named(name: str) -> str:
    try:
        return plain_text(name, what="a class name")
    except PointRendError as error:
        raise DatasetError(str(error)) from error


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set, and the values that they have in label images."""

    classes: tuple[ClassInfo, ...]
    values: tuple[int, ...]
    colored: tuple[bool, ...]
    """Whether the list states the colour of each class; others are generated."""


def read_classes(folder: Path) -> ClassList | None:
    """Read `classes.json` in `folder` or its parent; return None if neither has one.

    The file is a list of names, or of objects with name and optional color, ignore and value. A class's value in label
    images is its index in the list unless it states another. Missing colours are generated.

    Raises:
        DatasetError: the file is not such a list.
    """
    path = find_classes_file(folder)
    return None if path is None else read_classes_file(path)


def find_classes_file(folder: Path) -> Path | None:
    """Return the `classes.json` in `folder` or its parent, or None."""
    folder = folder.resolve()
    found = [path for path in (folder / CLASSES_FILE, folder.parent / CLASSES_FILE) if path.is_file()]
    return found[0] if found else None


def named_classes(names: Sequence[str]) -> tuple[ClassInfo, ...]:
    """Return classes of these names, with generated colours.

    Raises:
        DatasetError: a name is empty or comes twice.
    """
    return _checked(list(names)).classes


def read_classes_file(path: Path) -> ClassList:
    """Read a file as `read_classes` describes it; raise DatasetError as it does."""
    content = read_json(path)
    try:
        return _checked(content)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def _checked(content: object) -> ClassList:
    """Return the classes of a list as it stands in `classes.json`."""
    if not isinstance(content, list) or not content:
        raise DatasetError(f"expected a list of classes such as {EXAMPLE}, got {type(content).__name__}")
    if len(content) > IGNORE:
        raise DatasetError(f"at most {IGNORE} classes fit (value {IGNORE} means ignore), got {len(content)}")
    classes = _parse(content)
    names = [info.name for info in classes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(f"class names must differ, {shown(twice[0])} occurs more than once")
    values = tuple(_value(entry, index) for index, entry in enumerate(content))
    if same := [value for value in values if values.count(value) > 1]:
        raise DatasetError(f"the values of classes must differ, {same[0]} occurs more than once")
    if all(info.ignore for info in classes):
        raise DatasetError("every class is ignored; at least one must count")
    colored = tuple(isinstance(entry, dict) and entry.get("color") is not None for entry in content)
    return ClassList(classes, values, colored)


def _parse(content: list[Any]) -> tuple[ClassInfo, ...]:
    entries = [_parse_entry(entry) for entry in content]
    # Colours are generated only where one is missing: that imports matplotlib.
    complete = all(color for _, color, _ in entries)
    generated = () if complete else class_colors([name for name, _, _ in entries])
    return tuple(
        ClassInfo(name, color or generated[index], ignore) for index, (name, color, ignore) in enumerate(entries)
    )


def _parse_entry(entry: Any) -> tuple[str, Color | None, bool]:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"].strip():
        raise DatasetError(f"expected a name or an object with a name, got {shown(entry)}")
    name = _named(entry["name"])
    if unknown := sorted(set(entry) - set(_KEYS)):
        raise DatasetError(f"class {name!r}: unknown key {shown(unknown[0])}; expected {', '.join(_KEYS)}")
    ignore = entry.get("ignore", False)
    if not isinstance(ignore, bool):
        raise DatasetError(f"class {name!r}: ignore must be true or false, got {shown(ignore)}")
    color = entry.get("color")
    if color is None:
        return name, None, ignore
    if (
        not isinstance(color, list)
        or len(color) != 3
        or not all(type(value) is int and 0 <= value <= 255 for value in color)
    ):
        raise DatasetError(f"class {name!r}: color must be three integers in 0..255, got {shown(color)}")
    return name, (color[0], color[1], color[2]), ignore


def _value(entry: Any, index: int) -> int:
    value = entry.get("value", index) if isinstance(entry, dict) else index
    if type(value) is not int or not 0 <= value <= 255:
        raise DatasetError(f"class {entry['name']!r}: value must be an integer in 0..255, got {shown(value)}")
    return value


def class_colors(names: Sequence[str]) -> tuple[Color, ...]:
    """Generate a colour for each name; "background" is black."""
    generated = iter(generate_colors(len(names)))
    return tuple((0, 0, 0) if name.lower() == "background" else next(generated) for name in names)


@cache
def generate_colors(count: int) -> tuple[Color, ...]:
    """Return the first `count` colours of a fixed palette whose colours are easy to tell apart.

    The palette is Glasbey et al.'s (2007) without near-greys; it repeats after 253 colours.
    """
    from colorcet import glasbey_bw_minc_20_minl_30  # slow: imports matplotlib

    palette = [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in glasbey_bw_minc_20_minl_30]
    palette = [color for color in palette if max(color) - min(color) >= 30]
    return tuple(palette[index % len(palette)] for index in range(count))


_TABLES = {
    name: _parse(content)
    for name, content in json.loads(
        (resources.files("pointrend.data") / "class_tables.json").read_text(encoding="utf-8")
    ).items()
}

CAMVID = _TABLES["camvid"]
"""The 11 classes of the SegNet split, and void with label value 11."""

CITYSCAPES = _TABLES["cityscapes"]
"""The 19 evaluated classes in the order of their train ids, with Cityscapes' colours."""

CITYSCAPES_THINGS = CITYSCAPES[-8:]
"""The classes with instances: person, rider, car, truck, bus, train, motorcycle, bicycle."""

VOC = _TABLES["voc"]
"""Background and the 20 classes of Pascal VOC, with the devkit's colours."""

ADE20K = _TABLES["ade20k"]
"""The 150 classes of the scene parsing benchmark in the order of its label values 1 to 150, with its colours.

Road and skyscraper have the same colour.
"""

COCO = _TABLES["coco"]
"""The 80 categories by ascending id (ids have gaps), which is the order of published models' logits."""
