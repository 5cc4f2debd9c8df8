"""Which photographs were meant, and what their results are called."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path

from pointrend.cli.errors import describe
from pointrend.data.images import PHOTO_SUFFIXES
from pointrend.results import is_ours

Problem = tuple[str, str]
"""An argument and what is wrong with it."""


def find_photos(arguments: Iterable[str]) -> tuple[list[Path], list[Problem]]:
    """The files that arguments name, each once, in order, and what could not be found.

    A folder gives the images in it, but neither its subfolders, nor hidden files, nor pictures that pointrend wrote. A
    pattern that the shell left alone is expanded. What does not exist is returned as it is: reading it says so.
    """
    problems: list[Problem] = []
    found: dict[Path, Path] = {}
    for argument in arguments:
        try:
            for path in _expanded(argument):
                found.setdefault(path.resolve(), path)
        except (ValueError, OSError) as error:
            problems.append((argument, describe(error)))
    return list(found.values()), problems


def _expanded(argument: str) -> Iterator[Path]:
    path = Path(argument)
    if path.is_dir():
        images = [p for p in sorted(path.iterdir()) if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file()]
        # macOS leaves a hidden ._a.jpg, which is no image, beside a.jpg.
        photos = [p for p in images if not p.name.startswith(".") and not is_ours(p)]
        if not photos:
            known = ", ".join(sorted(PHOTO_SUFFIXES))
            raise ValueError(f"{path}: there is no photograph in this folder (looked for {known})")
        yield from photos
    elif not path.exists() and glob.has_magic(argument):
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 (Path.glob has no absolute patterns)
        if not matches:
            raise ValueError(f"{argument}: no file matches this pattern")
        for match in matches:
            yield from _expanded(match)
    else:
        yield path


def output_stems(photos: Sequence[Path], suffixes: Sequence[str]) -> list[str]:
    """A stem for each photograph, so that no two results share a file: `a`, then `a-2` for another photograph `a`.

    Files whose names differ only by case count as one, as they are on some systems.
    """
    taken: set[str] = set()

    def free(stem: str) -> str:
        for number in count(1):
            candidate = stem if number == 1 else f"{stem}-{number}"
            names = {f"{candidate}{suffix}".lower() for suffix in suffixes}
            if taken.isdisjoint(names):
                taken.update(names)
                return candidate
        raise AssertionError

    return [free(photo.stem) for photo in photos]


def check_targets(photo: Path, targets: Iterable[Path], inputs: set[Path]) -> None:
    """Refuse to write where an input lies, or a file that pointrend did not write.

    Args:
        photo: whose result it is.
        targets: the files to be written.
        inputs: all photographs, resolved.
    """
    for target in targets:
        if target.resolve() in inputs:
            raise ValueError(f"{photo}: the result would replace the input {target}; choose another --out")
        if target.exists() and not is_ours(target):
            raise ValueError(
                f"{photo}: the result would replace {target}, which pointrend did not write; choose another --out"
            )
