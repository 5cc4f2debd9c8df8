"""Leave out images without objects, as instance trainings do."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from pointrend.data.images import image_size
from pointrend.data.problems import DatasetError
from pointrend.data.samples import Sample, SampleSet


def with_objects(samples: SampleSet) -> SampleSet:
    """Return an instance data set without its images that show nothing, or crowds alone.

    Annotations that count themselves without their masks (COCO, LVIS) are not decoded; id images are.

    Raises:
        DatasetError: no image is left.
    """
    # Pillow decodes without holding the interpreter's lock, so threads do share the work.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        shown = list(pool.map(_shows_an_object, samples.samples))
    kept = tuple(sample for sample, shows in zip(samples.samples, shown, strict=True) if shows)
    if not kept:
        raise DatasetError(
            f"none of the {len(samples.samples)} images shows an object, and data.skip_empty leaves such images out"
        )
    return replace(samples, samples=kept, images_of_class=_images_of_class(samples, kept))


def _shows_an_object(sample: Sample) -> bool:
    counts = sample.annotations.inspect(sample.image, None, whole=False).counts
    if counts is None:  # only its pixels tell
        counts = sample.annotations.inspect(sample.image, image_size(sample.image), whole=True).counts
    return counts is None or bool(counts.any())  # where it cannot be read, reading it says why


def _images_of_class(samples: SampleSet, kept: tuple[Sample, ...]) -> tuple[int, ...]:
    """Return the number of kept images that show each class, if the layout knows it without reading files."""
    if not samples.images_of_class:
        return ()
    counts = np.zeros(len(samples.images_of_class), np.int64)
    for sample in kept:
        counts[list(set(sample.annotations.classes or ()))] += 1
    return tuple(counts.tolist())
