"""How often images are seen, where some classes are rare."""

from __future__ import annotations

import numpy as np

from pointrend.data.coco import CocoAnnotations
from pointrend.data.instance_sets import InstanceSet


def repeat_factors(samples: InstanceSet, threshold: float) -> np.ndarray:
    """(images,) how often each image is seen in an epoch (Gupta et al., "LVIS", CVPR 2019, section on resampling).

    A class in a share f of the images asks for max(1, sqrt(threshold / f)); an image gets the most that any of its
    classes asks for, and 1 without any.

    Raises:
        ValueError: the data set does not say which classes its images show before they are read.
    """
    if not samples.images_of_class:
        raise ValueError(f"augment.repeat_threshold is for coco and lvis, the data is {samples.name}; set it to 0")
    share = np.array(samples.images_of_class, np.float64) / len(samples.samples)
    wanted = np.maximum(1.0, np.sqrt(threshold / np.maximum(share, 1e-12)))
    factors = np.ones(len(samples.samples))
    for index, sample in enumerate(samples.samples):
        assert isinstance(sample.annotations, CocoAnnotations)
        if sample.annotations.classes:
            factors[index] = wanted[list(set(sample.annotations.classes))].max()
    return factors
