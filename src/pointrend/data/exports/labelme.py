"""labelme's files: a JSON file for each image, with `shapes` and `imagePath`.

The format: https://github.com/wkentaro/labelme (labelme/_label_file.py); the package itself needs Qt.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pointrend.data.coco_file import CocoObject
from pointrend.data.exports.base import (
    SPLITS,
    Category,
    Export,
    ExportImage,
    Labels,
    drawn_object,
    find_image,
    stated_size,
)
from pointrend.data.exports.shapes import Counts, ellipse, rectangle
from pointrend.data.images import BROKEN, pixel_limit
from pointrend.data.json_files import finite, json_text, read_json, whole
from pointrend.data.problems import DatasetError
from pointrend.errors import printable

LABELS_FILE = "labels.txt"
IGNORED = "__ignore__"
"""labelme's label of regions that count nowhere."""
_SHAPES = ("polygon", "rectangle", "circle", "mask", "point", "points", "line", "linestrip")


def files(source: Path) -> list[Path]:
    """Return labelme's files in a folder and the folders below; none if there are none."""
    if not source.is_dir():
        return []
    found = [path for path in sorted(source.rglob("*.json")) if not path.name.startswith(".")]
    return found if found and _is_labelme(found[0]) else []


def _is_labelme(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        # A damaged file among them is reported when it is read.
        return any(path.with_suffix(suffix).is_file() for suffix in (".jpg", ".jpeg", ".png"))
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read(source: Path) -> Export:
    """Read a folder of labelme's files, with images where the files say.

    Labels are those of `labels.txt` in the folder, or without it all that come, sorted. Shapes of a label and a group
    are one object.

    Raises:
        DatasetError: a file is damaged, or its image is missing; one line.
    """
    paths = files(source)
    if not paths:
        raise DatasetError(f"{source}: no JSON files of labelme there")
    contents = {path: _checked(path) for path in paths}
    names, listed_in = _labels(source, contents)
    labels, counts = Labels([*names, IGNORED], listed_in), Counts()
    images = tuple(_image(source, path, content, labels, counts) for path, content in contents.items())
    return Export(source, tuple(map(Category, names)), images, counts.notes())


def _checked(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list) or "imagePath" not in content:
        raise DatasetError(f"{path}: not a file of labelme: it has no list 'shapes' or no 'imagePath'")
    for number, shape in enumerate(content["shapes"], start=1):
        if not isinstance(shape, dict) or not {"label", "points"} <= shape.keys():
            raise DatasetError(f"{path}: shape {number} must be an object with label and points")
    return content


def _labels(source: Path, contents: dict[Path, dict[str, Any]]) -> tuple[list[str], str]:
    """Return the labels, without that of ignored regions, and where they are listed."""
    listed = source / LABELS_FILE
    if listed.is_file():
        lines = listed.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.strip() for line in lines if line.strip()]
    else:
        names = sorted({str(shape["label"]) for content in contents.values() for shape in content["shapes"]})
    kept = [name for name in names if name != IGNORED]
    if not kept:
        raise DatasetError(f"{source}: no shape of a label, so there is nothing to learn")
    return kept, LABELS_FILE


def _image(source: Path, path: Path, content: dict[str, Any], labels: Labels, counts: Counts) -> ExportImage:
    file = find_image(source, content["imagePath"], [path.parent], str(path))
    height, width = (content.get(key) for key in ("imageHeight", "imageWidth"))
    if height is None or width is None:
        raise DatasetError(f"{path}: no imageHeight and imageWidth")
    size = stated_size(file, whole(height, f"{path}: imageHeight"), whole(width, f"{path}: imageWidth"), str(path))
    top = path.relative_to(source).parts[0].lower()
    objects = tuple(_grouped(path, content["shapes"], size, labels, counts))
    return ExportImage(file, size, objects, SPLITS.get(top, ""))


def _grouped(
    path: Path, shapes: list[dict[str, Any]], size: tuple[int, int], labels: Labels, counts: Counts
) -> Iterator[CocoObject]:
    """Yield the objects of an image; polygons with the same group id are parts of one object."""
    groups: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = {}
    for number, shape in enumerate(shapes, start=1):
        alone = shape.get("group_id") is None
        key = (str(shape["label"]), f"shape {number}" if alone else f"group {json_text(shape['group_id'])}")
        groups.setdefault(key, []).append((number, shape))
    for (text, _), members in groups.items():
        parts = []
        for number, shape in members:
            where = f"{path}: shape {number}"
            label = labels.index(shape["label"], where)
            if (part := _segmentation(shape, where, size, counts)) is not None:
                parts.append(part)
        name = f"{path.name}: shape {members[0][0]} ({printable(text)})"
        masks = [part for part in parts if isinstance(part, np.ndarray)]
        polygons = [part for part in parts if not isinstance(part, np.ndarray)]
        ignored = text == IGNORED
        if polygons:
            yield drawn_object(name, 0 if ignored else label, polygons, crowd=ignored)
        if masks:
            yield drawn_object(name, 0 if ignored else label, np.any(masks, axis=0), crowd=ignored)


def _segmentation(
    shape: dict[str, Any], where: str, size: tuple[int, int], counts: Counts
) -> list[float] | np.ndarray | None:
    kind = shape.get("shape_type") or "polygon"
    if kind not in _SHAPES:
        raise DatasetError(f"{where}: shape_type must be one of {', '.join(_SHAPES)}, got {json_text(kind)}")
    points = _points(shape["points"], where)
    if kind == "polygon":
        return [value for point in points for value in point]
    if kind not in ("rectangle", "circle", "mask"):
        counts.left_out(kind)
        return None
    if len(points) != 2:
        raise DatasetError(f"{where}: a {kind} must have two points, got {len(points)}")
    (x0, y0), (x1, y1) = points
    if kind == "mask":
        return _mask(shape.get("mask"), (x0, y0), where, size)
    if kind == "circle":
        radius = float(np.hypot(x1 - x0, y1 - y0))
        return ellipse(x0, y0, radius, radius)
    counts.rectangles += 1
    return rectangle(x0, y0, x1, y1)


def _points(value: object, where: str) -> list[tuple[float, float]]:
    if not isinstance(value, list) or not all(isinstance(point, list) and len(point) == 2 for point in value):
        raise DatasetError(f"{where}: points must be a list of [x, y], got {json_text(value)}")
    return [(finite(x, f"{where}: x"), finite(y, f"{where}: y")) for x, y in value]


def _mask(text: object, corner: tuple[float, float], where: str, size: tuple[int, int]) -> np.ndarray:
    """Decode a mask: a PNG in base64, whose upper left pixel is at `corner`."""
    try:
        content = base64.b64decode(text if isinstance(text, str) else "", validate=True)
        with pixel_limit(), Image.open(io.BytesIO(content)) as image:
            if image.width > size[1] or image.height > size[0]:
                raise DatasetError(
                    f"{where}: its mask of {image.width} x {image.height} pixels is larger than the image"
                )
            window = np.asarray(image.convert("L")) > 0
    except DatasetError:
        raise
    except (binascii.Error, *BROKEN) as error:
        raise DatasetError(f"{where}: its mask must be a PNG in base64") from error
    left, top = round(corner[0]), round(corner[1])
    height, width = window.shape
    if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
        raise DatasetError(f"{where}: its mask at {left},{top} of {width} x {height} pixels is not in the image")
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = window
    return mask
