"""Read COCO and LVIS annotation files, and check every number in them.

What makes the whole file ambiguous (ids that occur twice, sizes that are no numbers) raises an error at once. What is
wrong with one annotation is kept with it, because a training may leave it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pointrend.data.json_files import finite, json_text, read_json, whole
from pointrend.data.problems import DatasetError
from pointrend.errors import PointRendError, plain_text

Box = tuple[float, float, float, float]


class CocoObject(NamedTuple):
    """One annotation."""

    name: str
    """For messages: "annotation 7"."""
    label: int
    """Index of the class."""
    crowd: bool
    segmentation: Any
    """As it stands in the file; None if it is missing."""
    box: Box | None
    """xyxy in pixels; None: not stated."""
    area: float | None
    """In pixels; None: not stated."""
    problem: str = ""
    """What is wrong with its numbers, or an empty text."""
    layer: int = 0
    """Objects of higher layers lie over others; COCO has one layer alone."""


@dataclass(frozen=True)
class CocoImage:
    """One image with its annotations."""

    id: int
    size: tuple[int, int]
    """(H, W)."""
    names: tuple[str, ...]
    """Its file's name, and others that it may have, in the order of search."""
    objects: tuple[CocoObject, ...]
    negative: tuple[int, ...]
    """LVIS: classes that were looked for in the image and not found."""
    not_exhaustive: tuple[int, ...]
    """LVIS: classes of which the image may show more objects than are annotated."""


@dataclass(frozen=True)
class CocoFile:
    """The content of an annotation file."""

    images: tuple[CocoImage, ...]
    """By rising id."""
    class_names: tuple[str, ...]
    """By rising category id."""
    category_ids: tuple[int, ...]
    frequencies: tuple[str, ...]
    """LVIS: "r", "c" or "f" for each class, else empty texts."""


def read_coco(path: Path, *, annotated: bool = True) -> CocoFile:
    """Read an annotation file; with `annotated=False` its images and categories alone.

    Raises:
        DatasetError: it is damaged, or its images, categories and annotations do not fit together; one line.
    """
    content = read_json(path)
    if not annotated and isinstance(content, dict):
        content = {**content, "annotations": []}
    required = {"images": {"id", "height", "width"}, "annotations": set(), "categories": {"id", "name"}}
    for key, fields in required.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DatasetError(f"{path}: not an annotation file: it has no list {key!r}")
        if not all(isinstance(entry, dict) and fields <= entry.keys() for entry in content[key]):
            needed = f"an object with {', '.join(sorted(fields))}" if fields else "an object"
            raise DatasetError(f"{path}: each entry of {key!r} must be {needed}")
    try:
        return _parsed(content)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def _parsed(content: Mapping[str, list[dict[str, Any]]]) -> CocoFile:
    listed = _without_heading(content["categories"], content["annotations"])
    categories = sorted(((whole(c["id"], "a category's id"), c) for c in listed), key=lambda c: c[0])
    names = [_text(c["name"], f"the name of category {number}") for number, c in categories]
    _refuse_twice((number for number, _ in categories), "two categories have the id {}")
    _refuse_twice(names, "two categories have the name {}")
    label_of = {number: label for label, (number, _) in enumerate(categories)}

    numbers = [whole(image["id"], "an image's id") for image in content["images"]]
    _refuse_twice(numbers, "two images have the id {}, so that their annotations cannot be told apart")
    if not numbers:
        raise DatasetError("lists no images")
    objects: dict[int, list[CocoObject]] = {number: [] for number in numbers}
    for entry in content["annotations"]:
        name = f"annotation {json_text(entry.get('id'))}"
        image = whole(entry.get("image_id"), f"image_id of {name}")
        category = whole(entry.get("category_id"), f"category_id of {name}")
        if image not in objects or category not in label_of:
            missing = f"image {image}" if image not in objects else f"category {category}"
            raise DatasetError(f"{name} is of {missing}, which the file lacks")
        objects[image].append(_object(entry, name, label_of[category]))

    images = [
        CocoImage(
            id=number,
            size=(_length(entry, "height", number), _length(entry, "width", number)),
            names=_file_names(entry, number),
            objects=tuple(objects[number]),
            negative=_labels(entry, "neg_category_ids", number, label_of),
            not_exhaustive=_labels(entry, "not_exhaustive_category_ids", number, label_of),
        )
        for number, entry in sorted(zip(numbers, content["images"], strict=True), key=lambda pair: pair[0])
    ]
    _refuse_twice((image.names[0] for image in images), "two images have the file_name {}")
    return CocoFile(
        images=tuple(images),
        class_names=tuple(names),
        category_ids=tuple(label_of),
        frequencies=tuple(str(c.get("frequency", "")) for _, c in categories),
    )


def _without_heading(categories: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the categories without the one that Roboflow puts above all others, and that no annotation has."""
    above = {json_text(c.get("supercategory")) for c in categories}
    used = {json_text(one.get("category_id")) for one in annotations}
    headings = [
        c
        for c in categories
        if c.get("supercategory") == "none" and json_text(c["name"]) in above and json_text(c["id"]) not in used
    ]
    return [c for c in categories if c not in headings] if len(headings) == 1 < len(categories) else categories


def stated_box(entry: Mapping[str, Any]) -> Box | None:
    """Return the `bbox` (x, y, width, height) of an annotation or a result as xyxy; None if it is missing or empty.

    Raises:
        DatasetError: it is something else than four numbers.
    """
    values = entry.get("bbox")
    if values is None or values == []:
        return None
    if not isinstance(values, list) or len(values) != 4:
        raise DatasetError(f"bbox must be four numbers x, y, width, height, got {json_text(values)}")
    left, top, width, height = (finite(value, "bbox") for value in values)
    if width < 0 or height < 0:
        raise DatasetError(f"bbox must have a width and height of at least 0, got {width:g} and {height:g}")
    return left, top, left + width, top + height


def _object(entry: Mapping[str, Any], name: str, label: int) -> CocoObject:
    crowd, box, area, problem = False, None, None, ""
    try:
        crowd = _flag(entry.get("iscrowd"))
        box = stated_box(entry)
        area = None if entry.get("area") is None else finite(entry["area"], "area")
        if area is not None and area < 0:
            raise DatasetError(f"area must be at least 0, got {area:g}")
    except DatasetError as error:
        problem = str(error)
    return CocoObject(name, label, crowd, entry.get("segmentation"), box, area, problem)


def _flag(value: object) -> bool:
    number = 0 if value is None else int(value) if isinstance(value, bool) else whole(value, "iscrowd")
    if number not in (0, 1):
        raise DatasetError(f"iscrowd must be 0 or 1, got {number}")
    return number == 1


def _length(entry: Mapping[str, Any], key: str, image: int) -> int:
    length = whole(entry[key], f"{key} of image {image}")
    if not 1 <= length <= 10**6:
        raise DatasetError(f"{key} of image {image} must be 1 to 1000000 pixels, got {length}")
    return length


def _text(value: object, name: str, *, length: int = 200) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DatasetError(f"{name} must be a text, got {json_text(value)}")
    try:
        return plain_text(value, what=name, length=length)
    except PointRendError as error:
        raise DatasetError(str(error)) from error


def _file_names(entry: Mapping[str, Any], number: int) -> tuple[str, ...]:
    names = [_path(entry["file_name"], number)] if entry.get("file_name") is not None else []
    if entry.get("coco_url") is not None:
        parts = _path(entry["coco_url"], number).split("/")
        names += ["/".join(parts[-2:]), parts[-1]]
    return tuple(names) or (f"{number:012d}.jpg",)


def _path(value: object, number: int) -> str:
    return _text(value, f"file_name of image {number}", length=4096)


def _labels(entry: Mapping[str, Any], key: str, image: int, label_of: Mapping[int, int]) -> tuple[int, ...]:
    values = entry.get(key) or ()
    if not isinstance(values, (list, tuple)):
        raise DatasetError(f"{key} of image {image} must be a list, got {json_text(values)}")
    numbers = [whole(value, f"{key} of image {image}") for value in values]
    return tuple(label_of[number] for number in numbers if number in label_of)


def _refuse_twice(values: Iterable[object], message: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise DatasetError(message.format(json_text(value)))
        seen.add(value)
