"""Checks of a data set's files before training or evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pointrend.data.images import ImageError, image_size, probe_image
from pointrend.data.problems import KINDS, NO_IMAGE, NO_LABEL, UNREADABLE, DatasetError, Problem
from pointrend.data.samples import Sample, SampleSet

READ_WHOLE = 2000
"""Number of images whose annotations are decoded in larger instance data sets; they are evenly spaced."""


def check_dataset(samples: SampleSet, *, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Read the files of a split and return their problems, sorted by kind and file.

    Semantic data sets: all label images are decoded and all images read to their end (see `probe_image`). Instance
    data sets: all image headers are read and the annotations of at least `READ_WHOLE` images decoded.

    `progress` is called with the number of samples done and their total.
    """
    problems = [Problem(NO_LABEL, path, "has no labels of the same name") for path in samples.unmatched_images]
    problems += [Problem(NO_IMAGE, path, "has no image of the same name") for path in samples.unmatched_labels]
    total = len(samples.samples)
    semantic = samples.task == "semantic"
    step = 1 if semantic else max(1, total // READ_WHOLE)

    def check(job: tuple[int, Sample]) -> list[Problem]:
        index, sample = job
        unreadable, size = [], None
        try:
            size = (probe_image if semantic else image_size)(sample.image)
        except ImageError as error:
            unreadable.append(Problem.of(UNREADABLE, sample.image, error))
        return unreadable + sample.annotations.problems(sample.image, size, whole=index % step == 0)

    # Pillow decodes without holding the interpreter's lock, so threads do share the work.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for done, found in enumerate(pool.map(check, enumerate(samples.samples)), start=1):
            problems += found
            if progress is not None:
                progress(done, total)
    return sorted(problems, key=lambda problem: (KINDS.index(problem.kind), problem.path))


def ensure_sound(
    samples: SampleSet, *, limit: int = 5, progress: Callable[[int, int], None] | None = None
) -> list[Problem]:
    """Check a split and return its harmless problems: labels without an image.

    Raises:
        DatasetError: a file cannot be used; at most `limit` files of each kind are listed.
    """
    problems = check_dataset(samples, progress=progress)
    harmless = [problem for problem in problems if problem.kind == NO_IMAGE]
    if len(harmless) < len(problems):
        raise DatasetError(describe(problems, limit=limit))
    return harmless


def describe(problems: list[Problem], *, limit: int = 5) -> str:
    """Describe problems: a line for each kind, then at most `limit` files and the number of further ones."""
    lines = []
    for kind in KINDS:
        of_kind = [problem for problem in problems if problem.kind == kind]
        if not of_kind:
            continue
        lines.append(f"{kind}: {len(of_kind)} file{'s' if len(of_kind) > 1 else ''}")
        lines += [f"  {problem.path}: {problem.detail}" for problem in of_kind[:limit]]
        if len(of_kind) > limit:
            lines.append(f"  and {len(of_kind) - limit} more")
    return "\n".join(lines)
