"""Label Studio's export "JSON": a list of tasks, with polygons, brushes, rectangles and ellipses, beside the images.

The format: https://labelstud.io/guide/export and https://labelstud.io/tags (polygonlabels, brushlabels, ...).
Coordinates are percentages of the image's width and height. The export has no images: they are looked for by name in
the file's folder and in `images/` and `upload/` there, with and without the prefix of uploads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from pointrend.data.coco_file import CocoObject
from pointrend.data.exports.base import (
    Category,
    Export,
    ExportImage,
    Labels,
    drawn_object,
    find_image,
    single_file,
    stated_size,
)
from pointrend.data.exports.brush import decode_brush
from pointrend.data.exports.shapes import Counts, ellipse, rectangle
from pointrend.data.images import IMAGE_SUFFIXES, image_size
from pointrend.data.json_files import finite, json_text, read_json, whole
from pointrend.data.problems import DatasetError
from pointrend.errors import shown

_SHAPES = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels")
_PREFIX = re.compile(r"[0-9a-f]{8}-")
"""Label Studio puts it before the names of uploaded files."""


def find(source: Path) -> Path | None:
    """Return the JSON file of an export; None if there is none."""
    return single_file(source, "*.json", "annotations of Label Studio", _is_label_studio)


def _is_label_studio(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return False
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and "annotations" in content[0]


def read(source: Path) -> Export:
    """Read an export: a folder, or its JSON file.

    Of several annotations of an image the last counts that was not cancelled. Images that have none are left out.

    Raises:
        DatasetError: it is damaged, or its images are missing; one line.
    """
    path = find(source)
    if path is None and source.is_file():
        read_json(source)  # which says whether it is JSON at all
    if path is None:
        raise DatasetError(f"{source}: no JSON of Label Studio there; export as 'JSON' (not 'JSON-MIN')")
    tasks = _checked(path)
    names = sorted({name for _, results in tasks for result in results for name in _names(result)})
    if not names:
        raise DatasetError(f"{path}: no {', '.join(_SHAPES)} in it, so there is nothing to learn")
    labels, counts = Labels(names, f"the labels of {path.name}"), Counts()
    images = []
    for task, results in tasks:
        if task["annotations"] and any(not one.get("was_cancelled") for one in task["annotations"]):
            images.append(_image(path, task, results, labels, counts))
        else:
            counts.left_out("image without annotations")
    return Export(path, tuple(map(Category, names)), tuple(images), counts.notes())


def _checked(path: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Return each task with the results of the annotation that counts."""
    found = []
    for number, task in enumerate(read_json(path), start=1):
        where = f"{path}: task {number}"
        if not isinstance(task, dict) or not isinstance(task.get("annotations"), list) or "data" not in task:
            raise DatasetError(f"{where}: must be an object with data and a list of annotations")
        if not all(isinstance(one, dict) and isinstance(one.get("result"), list) for one in task["annotations"]):
            raise DatasetError(f"{where}: an annotation must be an object with a list 'result'")
        done = [one["result"] for one in task["annotations"] if not one.get("was_cancelled")]
        results = done[-1] if done else []
        if not all(isinstance(result, dict) for result in results):
            raise DatasetError(f"{where}: each result must be an object")
        found.append((task, results))
    return found


def _names(result: Mapping[str, Any]) -> list[str]:
    """Return the labels of a result; none if it is no shape."""
    kind, value = result.get("type"), result.get("value")
    found = value.get(kind) if kind in _SHAPES and isinstance(value, dict) else None
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _image(
    path: Path, task: Mapping[str, Any], results: list[dict[str, Any]], labels: Labels, counts: Counts
) -> ExportImage:
    where = f"{path}: task {json_text(task.get('id'))}"
    address = _address(task["data"], where)
    name = _file_name(address, where)
    base = name.rpartition("/")[2]
    folders = [path.parent / "images", path.parent, path.parent / "upload"]
    names = dict.fromkeys((name, base, _PREFIX.sub("", base, count=1)))
    file = _first(path.parent, tuple(names), folders, where)
    size: tuple[int, int] | None = None
    objects: list[CocoObject] = []
    for number, result in enumerate(results, start=1):
        what = f"{where}: result {number}"
        if result.get("type") not in _SHAPES:
            counts.left_out(f"{json_text(result.get('type'))}")
            continue
        height, width = (whole(result.get(f"original_{key}"), f"{what}: original_{key}") for key in ("height", "width"))
        if whole(result.get("image_rotation") or 0, f"{what}: image_rotation"):
            raise DatasetError(f"{what}: the image was rotated in the tool, which is not read; rotate the file instead")
        size = stated_size(file, height, width, what)
        objects += _objects(result, number, what, size, labels, counts)
    return ExportImage(file, size or image_size(file), tuple(objects))


def _first(root: Path, names: tuple[str, ...], folders: list[Path], where: str) -> Path:
    """Return the image of the first name that there is; raise `DatasetError` of the first name if there is none."""
    first: DatasetError | None = None
    for name in names:
        try:
            return find_image(root, name, folders, where)
        except DatasetError as error:
            if "leaves the folder" in str(error):
                raise
            first = first or error
    raise first or DatasetError(where)


def _address(data: object, where: str) -> str:
    """Return the address of a task's image."""
    if isinstance(data, dict):
        texts = {key: value for key, value in data.items() if isinstance(value, str)}
        images = [
            text
            for text in texts.values()
            if Path(urlsplit(text).path + unquote(text)).suffix.lower() in IMAGE_SUFFIXES
        ]
        if "image" in texts:
            return texts["image"]
        if len(images) == 1:
            return images[0]
    raise DatasetError(f"{where}: its data must have one image, got {shown(data)}")


def _file_name(address: str, where: str) -> str:
    """Return the path of an image in the storage that an address names."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    name = local[0] if local else unquote(parts.path)
    if not name.strip("/"):
        raise DatasetError(f"{where}: the image's address must name a file, got {shown(address)}")
    return name.lstrip("/")


def _objects(
    result: Mapping[str, Any], number: int, where: str, size: tuple[int, int], labels: Labels, counts: Counts
) -> Iterator[CocoObject]:
    value = result.get("value")
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: value must be an object, got {json_text(value)}")
    found = value.get(result["type"])
    if not isinstance(found, list) or len(found) != 1:
        raise DatasetError(f"{where}: must have one label, got {json_text(found)}")
    label = labels.index(found[0], where)
    kind = result["type"].removesuffix("labels")
    segmentation = _segmentation(kind, value, where, size)
    counts.rectangles += kind == "rectangle"
    yield drawn_object(f"result {number} ({found[0]})", label, segmentation)


def _segmentation(
    kind: str, value: Mapping[str, Any], where: str, size: tuple[int, int]
) -> list[list[float]] | np.ndarray:
    height, width = size

    def number(key: str, per_cent_of: int | None, default: float | None = None) -> float:
        found = finite(value.get(key, default), f"{where}: {key}")
        return found if per_cent_of is None else found * per_cent_of / 100

    if kind == "brush":
        try:
            return decode_brush(value.get("rle"), size)
        except DatasetError as error:
            raise DatasetError(f"{where}: {error}") from error
    if kind == "polygon":
        points = value.get("points")
        if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
            raise DatasetError(f"{where}: points must be a list of [x, y], got {json_text(points)}")
        return [
            [
                finite(coordinate, f"{where}: a coordinate") * length / 100
                for point in points
                for coordinate, length in zip(point, (width, height), strict=True)
            ]
        ]
    x, y, angle = number("x", width), number("y", height), number("rotation", None, 0)
    if kind == "ellipse":
        return [ellipse(x, y, number("radiusX", width), number("radiusY", height), angle)]
    return [rectangle(x, y, x + number("width", width), y + number("height", height), angle, about_corner=True)]
