"""What is wrong with an instance data set, said before training starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pointrend.data.checks import ANNOTATION, SIZE, UNREADABLE, DatasetError, Problem, describe
from pointrend.data.coco import CocoAnnotations
from pointrend.data.images import ImageError, image_size
from pointrend.data.instance_sets import InstanceSample, InstanceSet

READ_WHOLE = 2000
"""Of more images than this, annotations are only read of so many, evenly spaced: all headers are looked at."""


def ensure_sound_instances(
    samples: InstanceSet, *, limit: int = 5, progress: Callable[[int, int], None] | None = None
) -> None:
    """Check a split and refuse it if a file cannot be used.

    Of photographs the header is read; annotations are decoded, of a sample in large data sets.

    Raises:
        DatasetError: at most `limit` files of each kind of problem, and how many more.
    """
    total = len(samples.samples)
    step = max(1, total // READ_WHOLE)
    problems: list[Problem] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        jobs = ((sample, index % step == 0) for index, sample in enumerate(samples.samples))
        for done, found in enumerate(pool.map(lambda job: _check(*job), jobs), start=1):
            problems += found
            if progress is not None:
                progress(done, total)
    if problems:
        raise DatasetError(describe(sorted(problems, key=lambda p: p.path), limit=limit))


def _check(sample: InstanceSample, whole: bool) -> list[Problem]:
    try:
        size = image_size(sample.image)
    except ImageError as error:
        return [Problem(UNREADABLE, sample.image, str(error).removeprefix(f"{sample.image}: "))]
    known = sample.annotations
    if isinstance(known, CocoAnnotations) and known.size != size:
        detail = f"is {size[1]} x {size[0]}, {known.source.name} says {known.size[1]} x {known.size[0]}"
        return [Problem(SIZE, sample.image, detail)]
    if not whole:
        return []
    try:
        known.read(size)
    except ValueError as error:
        return [Problem(ANNOTATION, sample.image, str(error))]
    return []
