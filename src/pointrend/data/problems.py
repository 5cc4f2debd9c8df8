"""Errors and problems of data sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pointrend.errors import PointRendError

UNREADABLE = "unreadable"
SIZE = "sizes differ"
VALUE = "label value out of range"
ANNOTATION = "unusable annotations"
NO_LABEL = "image without label"
NO_IMAGE = "label without image"
KINDS = (UNREADABLE, SIZE, VALUE, ANNOTATION, NO_LABEL, NO_IMAGE)
"""In the order in which they are reported."""


class DatasetError(PointRendError):
    """A data set that cannot be used; the message names the files."""


@dataclass(frozen=True)
class Problem:
    """A problem of a file. `kind` is one of `KINDS`; only `NO_IMAGE` is harmless."""

    kind: str
    path: Path
    detail: str

    @classmethod
    def of(cls, kind: str, path: Path, error: ValueError) -> Problem:
        """Return an error as a problem; the path at the start of its message is removed."""
        return cls(kind, path, str(error).removeprefix(f"{path}: "))
