"""Find the images of a COCO or LVIS split.

A split's images are in its own folder, `SPLIT/` or `images/SPLIT/`. Folders without a split's name, `images/` and the
data set's own, are used only if no split has a folder of its own, because an image of another split may have the same
name there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

SPLITS = ("train", "val", "valid", "validation", "test")
_YEARS = ("", "2014", "2015", "2017")


class ImageFolders:
    """The folders that may hold the images of one split.

    Args:
        annotations: the annotation file of the split.
        names: names that the split's own folder may have, most likely first.
    """

    def __init__(self, annotations: Path, names: Sequence[str]) -> None:
        beside = annotations.parent
        self._root = beside.parent if beside.name == "annotations" else beside
        self._names = tuple(names)
        self._own = next(filter(None, map(self._named, names)), [])
        if beside.name in names:  # Roboflow puts the file among its images
            self._own = [beside, beside / "images"]

    def find(self, names: Sequence[str]) -> Path:
        """Return the file of an image by its names; if none exists, the path at which it was expected."""
        candidates = [path for name in names for path in self._candidates(name)]
        return next((path for path in candidates if path.is_file()), candidates[0])

    def _candidates(self, name: str) -> Iterator[Path]:
        for spelling in _spellings(name):
            last = spelling.rpartition("/")[2]
            yield from (folder / part for part in dict.fromkeys((spelling, last)) for folder in self._own)
            if last != spelling:  # it says itself which folder it is in
                yield from (self._root / spelling, self._root / "images" / spelling)
            elif not self._own:
                folders = [self._root / self._names[0]] if self._others else [self._root / "images", self._root]
                yield from (folder / spelling for folder in folders)

    @cached_property
    def _others(self) -> list[Path]:
        return [folder for split in SPLITS for year in _YEARS for folder in self._named(f"{split}{year}")]

    def _named(self, name: str) -> list[Path]:
        return [folder for folder in (self._root / name, self._root / "images" / name) if folder.is_dir()]


def _spellings(name: str) -> list[str]:
    """Return a file name with backslashes replaced, in the Unicode forms of other systems, and as it stands."""
    plain = name.replace("\\", "/")
    forms = (unicodedata.normalize(form, plain) for form in ("NFC", "NFD"))
    return list(dict.fromkeys((plain, *forms, name)))
