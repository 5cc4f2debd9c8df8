"""Checks of a data set's files before training or evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pointrend.data.census import Census
from pointrend.data.images import ImageError, image_size, probe_image
from pointrend.data.problems import KINDS, NO_IMAGE, NO_LABEL, UNREADABLE, DatasetError, Problem
from pointrend.data.reading import Reading
from pointrend.data.samples import Inspection, Sample, SampleSet
from pointrend.errors import printable

READ_WHOLE = 2000
"""Number of images whose annotations are decoded in larger instance data sets; they are evenly spaced."""


@dataclass(frozen=True)
class Checked:
    """What a check found."""

    samples: SampleSet
    """The split without images and objects that have problems."""
    census: Census
    """The contents of `samples`."""
    problems: tuple[Problem, ...]
    """Sorted by kind and file."""
    sizes: tuple[tuple[int, int], ...] = ()
    """(H, W) of each image of `samples`."""
    shown: tuple[tuple[int, ...], ...] = ()
    """The indices of the classes that each image of `samples` shows; empty where its pixels tell and were not read."""


def check_dataset(
    samples: SampleSet,
    *,
    whole: bool = False,
    reading: Reading = Reading(),
    progress: Callable[[int, int], None] | None = None,
) -> Checked:
    """Read the files of a split, look for problems and count classes.

    Semantic data sets: all label images are decoded and all images read to their end (see `probe_image`). Instance
    data sets: all image headers are read, and the annotations of at least `READ_WHOLE` images decoded, or of all with
    `whole`.

    `reading` says how images of more than 8 bits are scaled; `progress` is called with the number of samples done and
    their total.
    """
    problems = [Problem(NO_LABEL, path, "has no labels of the same name") for path in samples.unmatched_images]
    problems += [Problem(NO_IMAGE, path, "has no image of the same name") for path in samples.unmatched_labels]
    total = len(samples.samples)
    semantic = samples.task == "semantic"
    step = 1 if semantic or whole else max(1, total // READ_WHOLE)

    def check(job: tuple[int, Sample]) -> tuple[Inspection, tuple[int, int] | None]:
        index, sample = job
        unreadable, size = [], None
        try:
            size = probe_image(sample.image, reading) if semantic else image_size(sample.image)
        except ImageError as error:
            unreadable.append(Problem.of(UNREADABLE, sample.image, error))
        found = sample.annotations.inspect(sample.image, size, whole=index % step == 0)
        usable = None if unreadable else found.usable
        return replace(found, problems=(*unreadable, *found.problems), usable=usable), size

    census, kept, sizes, shown = Census(samples), [], [], []
    # Pillow decodes without holding the interpreter's lock, so threads do share the work.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for done, (sample, (found, size)) in enumerate(
            zip(samples.samples, pool.map(check, enumerate(samples.samples)), strict=True), start=1
        ):
            problems += found.problems
            if found.usable is not None and size is not None:
                census.add(found)
                kept.append(replace(sample, annotations=found.usable))
                sizes.append(size)
                counts = () if found.counts is None else found.counts[: len(samples.classes)]
                shown.append(tuple(np.flatnonzero(counts).tolist()))
            if progress is not None:
                progress(done, total)
    return Checked(
        samples=replace(samples, samples=tuple(kept), unmatched_images=(), unmatched_labels=()),
        census=census,
        problems=tuple(sorted(problems, key=lambda problem: (KINDS.index(problem.kind), problem.path))),
        sizes=tuple(sizes),
        shown=tuple(shown),
    )


def ensure_sound(
    samples: SampleSet,
    *,
    skip_bad: bool = False,
    reading: Reading = Reading(),
    limit: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> Checked:
    """Check a split.

    Args:
        samples: the split.
        skip_bad: leave images and objects with problems out instead of raising.
        reading: how images of more than 8 bits are scaled.
        limit: maximum number of files that a message lists for each kind of problem.
        progress: see `check_dataset`.

    Raises:
        DatasetError: a file cannot be used, or with `skip_bad` none can. Labels without an image are harmless.
    """
    checked = check_dataset(samples, whole=skip_bad, reading=reading, progress=progress)
    if any(problem.kind != NO_IMAGE for problem in checked.problems) and not (skip_bad and checked.samples.samples):
        raise DatasetError(describe(checked.problems, limit=limit))
    return checked


def shared_images(first: SampleSet, second: SampleSet) -> list[Path]:
    """Return the images of `second` that are in `first` too."""
    of_first = {sample.image.resolve() for sample in first.samples}
    return [sample.image for sample in second.samples if sample.image.resolve() in of_first]


def describe(problems: tuple[Problem, ...], *, limit: int = 5) -> str:
    """Describe problems: a line for each kind, then at most `limit` files and the number of further ones."""
    lines = []
    for kind in KINDS:
        of_kind = [problem for problem in problems if problem.kind == kind]
        if not of_kind:
            continue
        lines.append(f"{kind}: {len(of_kind)} file{'s' if len(of_kind) > 1 else ''}")
        lines += [f"  {printable(str(problem.path), length=4096)}: {problem.detail}" for problem in of_kind[:limit]]
        if len(of_kind) > limit:
            lines.append(f"  and {len(of_kind) - limit} more")
    return "\n".join(lines)
