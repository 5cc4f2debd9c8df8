"""YOLO's text for segmentation: `data.yaml`, and for each image a text file with a line for each object.

The format: https://docs.ultralytics.com/datasets/segment. A line is a class's index and x, y, x, y, ... in ratios of
the image's width and height. The labels of `.../images/a.jpg` are `.../labels/a.txt`; without such a file an image
shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pointrend.data.coco_file import CocoObject
from pointrend.data.exports.base import SPLITS, Category, Export, ExportImage, drawn_object, inside, is_there
from pointrend.data.finding import image_files
from pointrend.data.images import image_size
from pointrend.data.json_files import finite, json_text, whole
from pointrend.data.problems import DatasetError
from pointrend.errors import printable, shown

_KEYS = ("train", "val", "valid", "test")
_OUTSIDE = 0.01
"""How far coordinates may be outside of an image, as ratio; they are moved to its border."""


def find(source: Path) -> Path | None:
    """Return the YAML file of a data set; None if there is none."""
    files = [source] if source.is_file() else sorted([*source.glob("*.yaml"), *source.glob("*.yml")])
    found = [path for path in files if path.suffix.lower() in (".yaml", ".yml") and _describes(path)]
    return found[0] if found else None


def _describes(path: Path) -> bool:
    try:
        content = _parsed(path)
    except DatasetError:
        return path.name in ("data.yaml", "data.yml")  # reading it says what is wrong
    return isinstance(content, dict) and "names" in content and any(key in content for key in _KEYS)


def _parsed(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = printable(" ".join(str(error).split()), length=200)
        raise DatasetError(f"{path}: cannot be read as YAML ({reason})") from error


def read(source: Path) -> Export:
    """Read a data set: a folder, or its YAML file.

    Raises:
        DatasetError: it is damaged, is of boxes, or its images are missing; one line.
    """
    path = find(source)
    if path is None:
        raise DatasetError(f"{source}: no data.yaml there with names and train; it says what the classes are called")
    content = _parsed(path)
    names = _names(content.get("names") if isinstance(content, dict) else None, path)
    root = path.parent
    images = []
    for key in _KEYS:
        for folder in _folders(content.get(key), root, content.get("path"), f"{path}: {key}"):
            for file in image_files(folder).values():
                size = image_size(file)
                objects = tuple(_objects(_labels_of(file), names, size))
                images.append(ExportImage(file, size, objects, SPLITS[key]))
    return Export(path, tuple(map(Category, names)), tuple(images))


def _names(value: object, path: Path) -> list[str]:
    """Return the names of the classes by index: of a list, or of an object with indices as keys."""
    if isinstance(value, dict):
        numbers = {whole(key, f"{path}: a key of names"): name for key, name in value.items()}
        if sorted(numbers) != list(range(len(numbers))):
            raise DatasetError(
                f"{path}: the keys of names must be 0 to {len(numbers) - 1}, got {shown(sorted(numbers))}"
            )
        value = [numbers[index] for index in range(len(numbers))]
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise DatasetError(f"{path}: names must be a list of the classes' names, got {json_text(value)}")
    return value


def _folders(value: object, root: Path, base: object, where: str) -> Iterator[Path]:
    """Yield the folders of images of a split."""
    for name in value if isinstance(value, list) else [] if value is None else [value]:
        if not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{where}: must be a folder of images, got {json_text(name)}")
        if name.endswith(".txt"):
            raise DatasetError(f"{where}: lists of images in text files are not read; name a folder, got {shown(name)}")
        places = [root / name]
        if isinstance(base, str):  # relative to the data set, or of the machine that it was made on
            places.insert(0, root / base / name)
        if name.startswith("../"):  # Roboflow writes this of folders beside the file
            places.append(root / name.removeprefix("../"))
        yield _folder(root, places, where)


def _folder(root: Path, places: list[Path], where: str) -> Path:
    escaped: DatasetError | None = None
    for place in places:
        try:
            folder = inside(root, place, where)
        except DatasetError as error:
            escaped = error
            continue
        for found in (folder / "images", folder) if folder.name != "images" else (folder,):
            if is_there(found, folder=True):
                return found
    raise escaped or DatasetError(f"{where}: no folder {printable(str(places[0]), length=500)}")


def _labels_of(image: Path) -> Path:
    """Return the file of an image's labels: the last folder `images` of its path is `labels`."""
    parts = list(image.parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _objects(path: Path, names: list[str], size: tuple[int, int]) -> Iterator[CocoObject]:
    if not path.is_file():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise DatasetError(f"{path}: cannot be read as text") from error
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        where = f"{path}: line {number}"
        label = whole(words[0], f"{where}: the class")
        if not 0 <= label < len(names):
            raise DatasetError(
                f"{where}: class {label} is not in the names of data.yaml, which are 0 to {len(names) - 1}"
            )
        if len(words) in (5, 6):
            raise DatasetError(f"{where}: is a box, of which no mask can be learned; export for segmentation")
        values = [finite(word, f"{where}: a coordinate") for word in words[1:]]
        if values and not (min(values) >= -_OUTSIDE and max(values) <= 1 + _OUTSIDE):
            raise DatasetError(f"{where}: coordinates must be ratios in 0..1, got {min(values):g} to {max(values):g}")
        points = [min(max(value, 0.0), 1.0) * size[1 - index % 2] for index, value in enumerate(values)]
        yield drawn_object(f"{path.name}: line {number} ({names[label]})", label, [points])
