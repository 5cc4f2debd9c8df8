"""The photos that arguments select, and the names of their results."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path

from pointrend.cli.errors import describe
from pointrend.data.images import PHOTO_SUFFIXES
from pointrend.errors import printable
from pointrend.results.files import is_ours, photo_of

Problem = tuple[str, str]
"""An argument and its error message."""


def find_photos(arguments: Iterable[str]) -> tuple[list[Path], list[Problem]]:
    """Return the files that arguments select, in order and without repetition, and the arguments that failed.

    A folder stands for the images in it, without subfolders, hidden files and files that pointrend wrote. Patterns that
    the shell did not expand are expanded. Missing files are returned too; reading them reports the error.
    """
    problems: list[Problem] = []
    photos: dict[Path, Path] = {}
    for argument in arguments:
        try:
            for path in _expanded(argument):
                photos.setdefault(path.resolve(), path)
        except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: a loop of links, until Python 3.13
            problems.append((argument, describe(error)))
    return list(photos.values()), problems


def _expanded(argument: str) -> Iterator[Path]:
    path = Path(argument)
    if path.is_dir():
        images = [p for p in sorted(path.iterdir()) if p.suffix.lower() in PHOTO_SUFFIXES and p.is_file()]
        # Hidden files: macOS writes ._a.jpg, which is not an image, beside a.jpg.
        photos = [p for p in images if not p.name.startswith(".") and not is_ours(p)]
        if not photos:
            suffixes = ", ".join(sorted(PHOTO_SUFFIXES))
            raise ValueError(f"{path}: no photos in this folder (looked for {suffixes})")
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
    """Return a unique stem for the results of each photo: `a`, then `a-2` for another photo named `a`.

    Names that differ only by case are considered equal, as some file systems do.
    """
    taken: set[str] = set()
    stems = []
    for photo in photos:
        for stem in chain([photo.stem], (f"{photo.stem}-{number}" for number in count(2))):
            names = {f"{stem}{suffix}".lower() for suffix in suffixes}
            if taken.isdisjoint(names):
                break
        taken |= names
        stems.append(stem)
    return stems


def check_targets(photo: Path, targets: Iterable[Path], inputs: set[Path], *, overwrite: bool = False) -> None:
    """Raise ValueError if a result of `photo` would replace one of the resolved `inputs`, a file of other origin, or,
    unless `overwrite`, the result of another photo."""
    for target in targets:
        if target.resolve() in inputs:
            raise ValueError(f"{photo}: the result would replace the input {target}; choose another --out")
        if not target.exists():
            continue
        if not is_ours(target):
            raise ValueError(
                f"{photo}: the result would replace {target}, which pointrend did not write; choose another --out"
            )
        other = None if overwrite else photo_of(target)
        if other is not None and other != str(photo) and Path(other).resolve() != photo.resolve():
            raise ValueError(
                f"{photo}: the result would replace {target}, which is of {printable(other)}; choose another --out, or "
                "use --overwrite"
            )
