"""What is wrong with a data set, said before training starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointrend.data.images import ImageError, probe_image, read_labels
from pointrend.data.layouts import Sample, SampleSet

UNREADABLE = "unreadable"
SIZE = "sizes differ"
VALUE = "label value out of range"
NO_LABEL = "image without label"
NO_IMAGE = "label without image"
ANNOTATION = "unusable annotations"
_KINDS = (UNREADABLE, SIZE, VALUE, ANNOTATION, NO_LABEL, NO_IMAGE)


class DatasetError(ValueError):
    """A data set that cannot be trained or evaluated on; the message says what is wrong with which files."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a file. `kind` is one of this module's constants; only `NO_IMAGE` does no harm."""

    kind: str
    path: Path
    detail: str


def check_dataset(samples: SampleSet, *, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Reads every file of a split and lists what is wrong, sorted by kind and file.

    Label images are decoded; of images the size is compared and the file read through (see `probe_image`).

    Args:
        samples: from `find_samples`.
        progress: called with the number of samples done and of all.
    """
    problems = [Problem(NO_LABEL, path, "has no labels of the same name") for path in samples.unmatched_images]
    problems += [Problem(NO_IMAGE, path, "has no image of the same name") for path in samples.unmatched_labels]
    total = len(samples.samples)
    # Pillow decodes without holding the interpreter's lock, so threads do share the work.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for done, found in enumerate(pool.map(lambda sample: _check(sample, samples), samples.samples), start=1):
            problems += found
            if progress is not None:
                progress(done, total)
    return sorted(problems, key=lambda problem: (_KINDS.index(problem.kind), problem.path))


def ensure_sound(
    samples: SampleSet, *, limit: int = 5, progress: Callable[[int, int], None] | None = None
) -> list[Problem]:
    """Checks a split and refuses it if a file cannot be used.

    Returns:
        What does no harm: labels without an image.

    Raises:
        DatasetError: at most `limit` files of each kind, and how many more.
    """
    problems = check_dataset(samples, progress=progress)
    harmless = [problem for problem in problems if problem.kind == NO_IMAGE]
    if len(harmless) < len(problems):
        raise DatasetError(describe(problems, limit=limit))
    return harmless


def describe(problems: list[Problem], *, limit: int = 5) -> str:
    """The problems in words: a line for each kind, then at most `limit` files and how many more there are."""
    lines = []
    for kind in _KINDS:
        of_kind = [problem for problem in problems if problem.kind == kind]
        if not of_kind:
            continue
        lines.append(f"{kind}: {len(of_kind)} file{'s' if len(of_kind) > 1 else ''}")
        lines += [f"  {problem.path}: {problem.detail}" for problem in of_kind[:limit]]
        if len(of_kind) > limit:
            lines.append(f"  and {len(of_kind) - limit} more")
    return "\n".join(lines)


def _check(sample: Sample, samples: SampleSet) -> list[Problem]:
    problems, size = [], None
    try:
        size = probe_image(sample.image)
    except ImageError as error:
        problems.append(_unreadable(sample.image, error))
    try:
        values = read_labels(sample.label)
    except ImageError as error:
        return [*problems, _unreadable(sample.label, error)]
    if size is not None and size != values.shape:
        height, width = values.shape
        detail = f"labels are {width} x {height}, the image {sample.image.name} is {size[1]} x {size[0]}"
        problems.append(Problem(SIZE, sample.label, detail))
    occur = np.bincount(values.ravel(), minlength=256) > 0
    if wrong := np.flatnonzero(occur & ~samples.valid).tolist():
        shown = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        problems.append(Problem(VALUE, sample.label, f"value {shown}; allowed are {_ranges(samples.valid)}"))
    return problems


def _unreadable(path: Path, error: ImageError) -> Problem:
    return Problem(UNREADABLE, path, str(error).removeprefix(f"{path}: "))


def _ranges(valid: np.ndarray) -> str:
    """The allowed values in short, such as "0 to 11 and 255"."""
    values = np.flatnonzero(valid)
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return " and ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
