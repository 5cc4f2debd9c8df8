"""Exports of annotation tools, which `pointrend data convert` makes data sets of. One module a format."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pointrend.data.exports import cvat, label_studio, labelme, yolo
from pointrend.data.exports.base import Category, Export, ExportImage
from pointrend.data.problems import DatasetError

__all__ = ["FORMATS", "Category", "Export", "ExportImage", "Format", "detected", "format_named"]


@dataclass(frozen=True)
class Format:
    """A format of exports."""

    title: str
    """For messages."""
    matches: Callable[[Path], bool]
    """Tells whether a file or a folder looks like this format."""
    read: Callable[[Path], Export]
    """Reads it, or raises `DatasetError`."""
    hint: str
    """What is expected, for messages."""


FORMATS = {
    "cvat": Format("CVAT", lambda source: cvat.find(source) is not None, cvat.read, "annotations.xml and images/"),
    "label-studio": Format(
        "Label Studio",
        lambda source: label_studio.find(source) is not None,
        label_studio.read,
        "a .json list of tasks and the images",
    ),
    "labelme": Format("labelme", lambda source: bool(labelme.files(source)), labelme.read, "a .json beside each image"),
    "yolo": Format(
        "YOLO", lambda source: yolo.find(source) is not None, yolo.read, "data.yaml, images/ and labels/ with .txt"
    ),
}
"""All formats by name, in the order in which they are tried."""


def detected(source: Path) -> str:
    """Return the name of the tool whose export a file or a folder looks like; "" if it looks like none."""
    return next((form.title for form in FORMATS.values() if _matches(form, source)), "")


def _matches(form: Format, source: Path) -> bool:
    try:
        return form.matches(source)
    except DatasetError:
        return True  # several files of it


def format_named(name: str, source: Path) -> Format | None:
    """Return a format by its name, or with "auto" the first that `source` looks like; None if it is none of ours.

    Raises:
        DatasetError: the name is unknown.
    """
    if name == "auto":
        return next((form for form in FORMATS.values() if _matches(form, source)), None)
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0)
        raise DatasetError(f"unknown format {name!r}, did you mean {near[0]!r}? Formats are auto, {', '.join(FORMATS)}")
    return FORMATS[name]
