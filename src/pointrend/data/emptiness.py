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
    size = image_size(sample.image)
    for whole in (False, True):
        counts = sample.annotations.inspect(sample.image, size, whole=whole).counts
        if counts is not None:
            return bool(counts.any())
    return True  # reading it will say what is wrong


def _images_of_class(samples: SampleSet, kept: tuple[Sample, ...]) -> tuple[int, ...]:
    """Count the images of each class anew, where the layout knows them."""
    if not samples.images_of_class:
        return ()
    counts = np.zeros(len(samples.images_of_class), np.int64)
    for sample in kept:
        counts[list(set(sample.annotations.classes or ()))] += 1
    return tuple(counts.tolist())
