"""CVAT's export "CVAT for images 1.1": `annotations.xml` beside `images/`.

The format: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pointrend.data.classes import Color
from pointrend.data.coco_file import CocoObject
from pointrend.data.exports.base import (
    SPLITS,
    Category,
    Export,
    ExportImage,
    Labels,
    drawn_object,
    find_image,
    single_file,
    stated_size,
)
from pointrend.data.exports.shapes import Counts, ellipse, rectangle
from pointrend.data.json_files import finite, whole
from pointrend.data.problems import DatasetError
from pointrend.errors import printable, shown

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SHAPES = ("polygon", "mask", "box", "ellipse", "polyline", "points", "cuboid", "skeleton", "tag")
_OTHERS = ("polyline", "points", "cuboid", "skeleton")
"""Shapes that cover no area."""


def find(source: Path) -> Path | None:
    """Return the XML file of an export; None if there is none."""
    return single_file(source, "*.xml", "annotations of CVAT", _is_cvat)


def _is_cvat(path: Path) -> bool:
    if path.suffix.lower() != ".xml":
        return False
    with path.open("rb") as file:
        start = file.read(4096)
    return re.search(rb"<annotations[\s>]", start) is not None


def read(source: Path) -> Export:
    """Read an export: a folder, or its XML file.

    Raises:
        DatasetError: it is damaged, uses what this format does not have, or its images are missing; one line.
    """
    path = find(source)
    if path is None:
        raise DatasetError(f"{source}: no annotations.xml of CVAT there; export as 'CVAT for images 1.1' with images")
    root = parsed(path)
    if root.find("track") is not None:
        raise DatasetError(
            f"{path}: is 'CVAT for video'; export as 'CVAT for images 1.1', which has a list for each image"
        )
    categories = _categories(root, path)
    labels = Labels([one.name for one in categories], f"the labels of {path.name}")
    counts = Counts()
    images = tuple(_image(element, path, labels, counts) for element in root.iter("image"))
    return Export(path, categories, images, counts.notes())


def parsed(path: Path) -> Element:
    """Parse an XML file without document types and entities, which could grow without bound or name other files.

    Raises:
        DatasetError: it is no such XML, or defusedxml is not installed.
    """
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import ParseError, parse
    except ImportError as error:
        raise DatasetError("reading XML needs defusedxml: pip install 'pointrend[train]'") from error
    try:
        root: Element = parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise DatasetError(f"{path}: has a document type or entities, which are refused") from error
    except (ParseError, ValueError, OSError, LookupError) as error:
        raise DatasetError(f"{path}: cannot be read as XML ({printable(str(error), length=200)})") from error
    return root


def _categories(root: Element, path: Path) -> tuple[Category, ...]:
    found = [label for element in root.iterfind("meta/*/labels") for label in element.iterfind("label")]
    if not found:
        raise DatasetError(f"{path}: lists no labels (annotations/meta/task/labels)")
    return tuple(
        Category(str(label.findtext("name", "")).strip(), _color(label.findtext("color"), path)) for label in found
    )


def _color(text: str | None, path: Path) -> Color | None:
    if not text:
        return None
    match = re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text.strip())
    if match is None:
        raise DatasetError(f"{path}: a label's colour must be #RRGGBB, got {shown(text)}")
    return int(match[1], 16), int(match[2], 16), int(match[3], 16)


def _image(element: Element, path: Path, labels: Labels, counts: Counts) -> ExportImage:
    name, subset = element.get("name"), element.get("subset") or ""
    where = f"{path}: image {shown(name)}"
    folder = path.parent
    file = find_image(folder, name, [folder / "images" / subset, folder / "images", folder / subset, folder], where)
    height, width = (whole(element.get(key), f"{where}: its {key}") for key in ("height", "width"))
    size = stated_size(file, height, width, where)
    objects = tuple(_objects(element, where, size, labels, counts))
    return ExportImage(file, size, objects, SPLITS.get(subset.lower(), ""))


def _objects(image: Element, where: str, size: tuple[int, int], labels: Labels, counts: Counts) -> Iterator[CocoObject]:
    for number, element in enumerate(image, start=1):
        if element.tag not in _SHAPES:
            raise DatasetError(f"{where}: unknown shape {shown(element.tag)}; expected {', '.join(_SHAPES)}")
        if element.tag == "tag":
            continue
        label = labels.index(element.get("label"), f"{where}: {element.tag} {number}")
        name = f"image {image.get('name')}: {element.tag} {number} ({element.get('label')})"
        if element.tag in _OTHERS:
            counts.left_out(element.tag)
            continue
        if element.tag == "box":
            counts.rectangles += 1
        layer = whole(element.get("z_order", "0"), f"{where}: {element.tag} {number}: z_order")
        yield drawn_object(name, label, _segmentation(element, f"{where}: {element.tag} {number}", size), layer=layer)


def _segmentation(element: Element, where: str, size: tuple[int, int]) -> list[list[float]] | np.ndarray:
    def number(key: str, default: str | None = None) -> float:
        return finite(element.get(key, default), f"{where}: {key}")

    if element.tag == "polygon":
        return [_points(element.get("points", ""), where)]
    if element.tag == "mask":
        return _mask(element, where, size)
    angle = number("rotation", "0")
    if element.tag == "box":
        return [rectangle(number("xtl"), number("ytl"), number("xbr"), number("ybr"), angle)]
    return [ellipse(number("cx"), number("cy"), number("rx"), number("ry"), angle)]


def _points(text: str, where: str) -> list[float]:
    values = [part.split(",") for part in text.split(";") if part]
    if any(len(pair) != 2 for pair in values):
        raise DatasetError(f"{where}: points must be x,y;x,y;..., got {shown(text)}")
    return [finite(value, f"{where}: a coordinate") for pair in values for value in pair]


def _mask(element: Element, where: str, size: tuple[int, int]) -> np.ndarray:
    """Decode a mask from CVAT's run lengths: 0s first, then 1s, and so on, row by row within the mask's box."""
    left, top, width, height = (
        whole(element.get(key), f"{where}: {key}") for key in ("left", "top", "width", "height")
    )
    if min(left, top) < 0 or min(width, height) < 1 or left + width > size[1] or top + height > size[0]:
        raise DatasetError(
            f"{where}: its window {left},{top} of {width} x {height} is not in {size[1]} x {size[0]} pixels"
        )
    runs = [whole(part, f"{where}: a run of its rle") for part in element.get("rle", "").split(",")]
    if min(runs) < 0 or sum(runs) != width * height:
        raise DatasetError(f"{where}: its rle must have {width * height} pixels, got {sum(runs)}")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = values.reshape(height, width)
    return mask
