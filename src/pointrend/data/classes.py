"""Class names and colours: read from `classes.json`, or of a published data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

IGNORE = 255
"""The label value of pixels that belong to no class and count nowhere."""

Color = tuple[int, int, int]

CLASSES_FILE = "classes.json"
EXAMPLE = '["background", "cat", {"name": "dog", "color": [255, 0, 0]}, {"name": "unsure", "ignore": true}]'


@dataclass(frozen=True)
class ClassInfo:
    """A class of a data set. `color` is RGB in 0..255; pixels of an `ignore` class count nowhere."""

    name: str
    color: Color
    ignore: bool = False


def read_classes(folder: Path) -> tuple[ClassInfo, ...] | None:
    """Reads `classes.json` in `folder` or else its parent; None if neither has one.

    The file is a list in the order of the label values: names, or objects of name, color and ignore (the
    last two may be left out). Missing colours are generated.

    Raises:
        ValueError: the file is not such a list; one line that names the file.
    """
    folder = folder.resolve()
    for place in (folder, folder.parent):
        path = place / CLASSES_FILE
        if path.is_file():
            return _parse_file(path)
    return None


def _parse_file(path: Path) -> tuple[ClassInfo, ...]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path}: expected a list of classes such as {EXAMPLE}, got {type(content).__name__}")
    if len(content) > IGNORE:
        raise ValueError(f"{path}: at most {IGNORE} classes fit (value {IGNORE} means ignore), got {len(content)}")
    try:
        entries = [_parse_entry(entry) for entry in content]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    names = [name for name, _, _ in entries]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path}: class names must differ, {twice[0]!r} occurs more than once")
    if all(ignore for _, _, ignore in entries):
        raise ValueError(f"{path}: every class is ignored; at least one must count")
    colors = class_colors(names)
    return tuple(
        ClassInfo(name, color or generated, ignore)
        for (name, color, ignore), generated in zip(entries, colors, strict=True)
    )


def _parse_entry(entry: Any) -> tuple[str, Color | None, bool]:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"].strip():
        raise ValueError(f"expected a name or an object with a name, got {json.dumps(entry)}")
    name = entry["name"]
    if unknown := sorted(set(entry) - {"name", "color", "ignore"}):
        raise ValueError(f"class {name!r} has the unknown key {unknown[0]!r}; known are name, color and ignore")
    ignore = entry.get("ignore", False)
    if not isinstance(ignore, bool):
        raise ValueError(f"class {name!r}: ignore must be true or false, got {json.dumps(ignore)}")
    color = entry.get("color")
    if color is None:
        return name, None, ignore
    if (
        not isinstance(color, list)
        or len(color) != 3
        or not all(type(value) is int and 0 <= value <= 255 for value in color)
    ):
        raise ValueError(f"class {name!r}: color must be three integers in 0..255, got {json.dumps(color)}")
    return name, (color[0], color[1], color[2]), ignore


def class_colors(names: Sequence[str]) -> tuple[Color, ...]:
    """A generated colour for each name; one called "background" is black."""
    generated = iter(generate_colors(len(names)))
    return tuple((0, 0, 0) if name.lower() == "background" else next(generated) for name in names)


@cache
def generate_colors(count: int) -> tuple[Color, ...]:
    """`count` colours that are easy to tell apart, always the same; the first ones do not depend on `count`.

    Each is the candidate farthest in CIELAB from black, white, grey and the colours before it.
    """
    levels = np.linspace(0, 255, 9).round()
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _to_lab(candidates)
    # Nearly black and nearly white would vanish in an overlay.
    usable = (lab[:, 0] > 30) & (lab[:, 0] < 92)
    candidates, lab = candidates[usable], lab[usable]
    taken = _to_lab(np.array([[0, 0, 0], [255, 255, 255], [128, 128, 128]]))
    nearest = np.linalg.norm(lab[:, None] - taken[None], axis=-1).min(axis=1)
    colors: list[Color] = []
    for _ in range(count):
        best = int(nearest.argmax())
        red, green, blue = (int(value) for value in candidates[best])
        colors.append((red, green, blue))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[best], axis=-1))
    return tuple(colors)


def _to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in 0..255 (N, 3) -> CIELAB (N, 3), white point D65."""
    srgb = rgb / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    lab: np.ndarray = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)
    return lab


def _voc_color(index: int) -> Color:
    """VOC's colour map: bits 0, 3, 6 of the index are red's highest bits, 1, 4, 7 green's and so on."""
    red, green, blue = (
        sum((index >> (3 * place + channel) & 1) << (7 - place) for place in range(3)) for channel in range(3)
    )
    return red, green, blue


CAMVID = (
    ClassInfo("sky", (128, 128, 128)),
    ClassInfo("building", (128, 0, 0)),
    ClassInfo("pole", (192, 192, 128)),
    ClassInfo("road", (128, 64, 128)),
    ClassInfo("pavement", (60, 40, 222)),
    ClassInfo("tree", (128, 128, 0)),
    ClassInfo("sign", (192, 128, 128)),
    ClassInfo("fence", (64, 64, 128)),
    ClassInfo("car", (64, 0, 128)),
    ClassInfo("pedestrian", (64, 64, 0)),
    ClassInfo("bicyclist", (0, 128, 192)),
    ClassInfo("void", (0, 0, 0), ignore=True),
)
"""The 11 classes of the SegNet split, and void, whose label value is 11."""

CITYSCAPES = (
    ClassInfo("road", (128, 64, 128)),
    ClassInfo("sidewalk", (244, 35, 232)),
    ClassInfo("building", (70, 70, 70)),
    ClassInfo("wall", (102, 102, 156)),
    ClassInfo("fence", (190, 153, 153)),
    ClassInfo("pole", (153, 153, 153)),
    ClassInfo("traffic light", (250, 170, 30)),
    ClassInfo("traffic sign", (220, 220, 0)),
    ClassInfo("vegetation", (107, 142, 35)),
    ClassInfo("terrain", (152, 251, 152)),
    ClassInfo("sky", (70, 130, 180)),
    ClassInfo("person", (220, 20, 60)),
    ClassInfo("rider", (255, 0, 0)),
    ClassInfo("car", (0, 0, 142)),
    ClassInfo("truck", (0, 0, 70)),
    ClassInfo("bus", (0, 60, 100)),
    ClassInfo("train", (0, 80, 100)),
    ClassInfo("motorcycle", (0, 0, 230)),
    ClassInfo("bicycle", (119, 11, 32)),
)
"""The 19 evaluated classes in the order of their train ids, with the data set's own colours."""

CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label id of each train id; every other label id is ignored (cityscapesScripts' table)."""

# fmt: off
_VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)
# fmt: on
VOC = tuple(ClassInfo(name, _voc_color(index)) for index, name in enumerate(_VOC_NAMES))
"""Background and the 20 classes of Pascal VOC, with the devkit's colours."""

# fmt: off
_ADE20K_NAMES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet",
    "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water",
    "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence",
    "desk", "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion", "base", "box", "column",
    "signboard", "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace", "refrigerator",
    "grandstand", "path", "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway",
    "river", "bridge", "bookcase", "blind", "coffee table", "toilet", "flower", "book", "hill", "bench",
    "countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat", "bar",
    "arcade machine", "hovel", "bus", "towel", "light", "truck", "tower", "chandelier", "awning",
    "streetlight", "booth", "television receiver", "airplane", "dirt track", "apparel", "pole", "land",
    "bannister", "escalator", "ottoman", "bottle", "buffet", "poster", "stage", "van", "ship", "fountain",
    "conveyer belt", "canopy", "washer", "plaything", "swimming pool", "stool", "barrel", "basket",
    "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball", "food", "step", "tank", "trade name",
    "microwave", "pot", "animal", "bicycle", "lake", "dishwasher", "screen", "blanket", "sculpture", "hood",
    "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier", "crt screen", "plate", "monitor",
    "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)
_ADE20K_COLORS: tuple[Color, ...] = (
    (120, 120, 120), (180, 120, 120), (6, 230, 230), (80, 50, 50), (4, 200, 3), (120, 120, 80),
    (140, 140, 140), (204, 5, 255), (230, 230, 230), (4, 250, 7), (224, 5, 255), (235, 255, 7), (150, 5, 61),
    (120, 120, 70), (8, 255, 51), (255, 6, 82), (143, 255, 140), (204, 255, 4), (255, 51, 7), (204, 70, 3),
    (0, 102, 200), (61, 230, 250), (255, 6, 51), (11, 102, 255), (255, 7, 71), (255, 9, 224), (9, 7, 230),
    (220, 220, 220), (255, 9, 92), (112, 9, 255), (8, 255, 214), (7, 255, 224), (255, 184, 6), (10, 255, 71),
    (255, 41, 10), (7, 255, 255), (224, 255, 8), (102, 8, 255), (255, 61, 6), (255, 194, 7), (255, 122, 8),
    (0, 255, 20), (255, 8, 41), (255, 5, 153), (6, 51, 255), (235, 12, 255), (160, 150, 20), (0, 163, 255),
    (140, 140, 140), (250, 10, 15), (20, 255, 0), (31, 255, 0), (255, 31, 0), (255, 224, 0), (153, 255, 0),
    (0, 0, 255), (255, 71, 0), (0, 235, 255), (0, 173, 255), (31, 0, 255), (11, 200, 200), (255, 82, 0),
    (0, 255, 245), (0, 61, 255), (0, 255, 112), (0, 255, 133), (255, 0, 0), (255, 163, 0), (255, 102, 0),
    (194, 255, 0), (0, 143, 255), (51, 255, 0), (0, 82, 255), (0, 255, 41), (0, 255, 173), (10, 0, 255),
    (173, 255, 0), (0, 255, 153), (255, 92, 0), (255, 0, 255), (255, 0, 245), (255, 0, 102), (255, 173, 0),
    (255, 0, 20), (255, 184, 184), (0, 31, 255), (0, 255, 61), (0, 71, 255), (255, 0, 204), (0, 255, 194),
    (0, 255, 82), (0, 10, 255), (0, 112, 255), (51, 0, 255), (0, 194, 255), (0, 122, 255), (0, 255, 163),
    (255, 153, 0), (0, 255, 10), (255, 112, 0), (143, 255, 0), (82, 0, 255), (163, 255, 0), (255, 235, 0),
    (8, 184, 170), (133, 0, 255), (0, 255, 92), (184, 0, 255), (255, 0, 31), (0, 184, 255), (0, 214, 255),
    (255, 0, 112), (92, 255, 0), (0, 224, 255), (112, 224, 255), (70, 184, 160), (163, 0, 255), (153, 0, 255),
    (71, 255, 0), (255, 0, 163), (255, 204, 0), (255, 0, 143), (0, 255, 235), (133, 255, 0), (255, 0, 235),
    (245, 0, 255), (255, 0, 122), (255, 245, 0), (10, 190, 212), (214, 255, 0), (0, 204, 255), (20, 0, 255),
    (255, 255, 0), (0, 153, 255), (0, 41, 255), (0, 255, 204), (41, 0, 255), (41, 255, 0), (173, 0, 255),
    (0, 245, 255), (71, 0, 255), (122, 0, 255), (0, 255, 184), (0, 92, 255), (184, 255, 0), (0, 133, 255),
    (255, 214, 0), (25, 194, 194), (102, 255, 0), (92, 0, 255),
)
# fmt: on
ADE20K = tuple(map(ClassInfo, _ADE20K_NAMES, _ADE20K_COLORS))
"""The 150 classes of the scene parsing benchmark, in the order of its label values 1 to 150, with its own colours.

Two classes share a colour there: road and skyscraper.
"""
