"""Sampling of training batches as a pure function of seed, iteration and process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch.utils.data import Sampler

from pointrend.data.problems import DatasetError
from pointrend.data.samples import SampleSet
from pointrend.errors import PointRendError

# These separate the random streams of orders and of augmentations.
_ORDER, _SAMPLE = 0, 1


@dataclass(eq=False)
class IterationBatchSampler(Sampler[list[tuple[int, int]]]):
    """A sampler of batches of (index, seed) for `SegmentationDataset`, from `start_iteration` up to `iterations`.

    Every sample occurs once per epoch, in an order drawn for each epoch; a batch may reach into the next epoch. A
    sampler that starts later continues exactly as if never stopped. `world_size` processes with `batch_size` samples
    each see the same batches as one process with `world_size * batch_size`.

    Args:
        num_samples: length of the data set.
        batch_size: samples per iteration of this process.
        seed: at least 0.
        iterations: total of the training.
        start_iteration: iterations that are done already.
        rank, world_size: index of this process and number of processes.
        repeats: (num_samples,) mean number of occurrences of each sample in an epoch; None: one each. Fractions are
            rounded up or down at random in each epoch.
    """

    num_samples: int
    _: KW_ONLY
    batch_size: int
    seed: int
    iterations: int
    start_iteration: int = 0
    rank: int = 0
    world_size: int = 1
    repeats: np.ndarray | None = None

    def __post_init__(self) -> None:
        count, repeats = self.num_samples, self.repeats
        if count < 1 or self.batch_size < 1:
            raise PointRendError(f"num_samples and batch_size must be at least 1, got {count} and {self.batch_size}")
        if repeats is not None and (repeats.shape != (count,) or not (repeats > 0).all()):
            raise PointRendError(f"repeats must be {count} numbers above 0, got {repeats.shape}")
        if self.seed < 0:
            raise PointRendError(f"seed must be at least 0, got {self.seed}")
        if not 0 <= self.rank < self.world_size:
            raise PointRendError(f"rank must be in 0..{self.world_size - 1}, got {self.rank}")
        if not 0 <= self.start_iteration <= self.iterations:
            raise PointRendError(f"start_iteration must be in 0..{self.iterations}, got {self.start_iteration}")
        self.epoch_length = count if repeats is None else math.ceil(float(repeats.sum()))

    def __len__(self) -> int:
        return self.iterations - self.start_iteration

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.empty(0, np.int64)
        for iteration in range(self.start_iteration, self.iterations):
            first = (iteration * self.world_size + self.rank) * self.batch_size
            batch = []
            for position in range(first, first + self.batch_size):
                if position // self.epoch_length != epoch:
                    epoch = position // self.epoch_length
                    order = self._order(epoch)
                batch.append((int(order[position % self.epoch_length]), _mix(self.seed, _SAMPLE, position)))
            yield batch

    def _order(self, epoch: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(_mix(self.seed, _ORDER, epoch))
        order: np.ndarray = torch.randperm(self.epoch_length, generator=generator).numpy()
        if self.repeats is None:
            return order
        # Systematic sampling: evenly spaced marks, shifted by one draw, along the cumulated repeats. Each sample is hit
        # as often as its repeats say, rounded up or down, and all epochs have the same length.
        shift = float(torch.rand((), generator=generator, dtype=torch.float64))
        bounds = np.cumsum(self.repeats, dtype=np.float64)
        marks = (np.arange(self.epoch_length) + shift) * (bounds[-1] / self.epoch_length)
        repeated: np.ndarray = np.searchsorted(bounds, marks, side="right").clip(max=self.num_samples - 1)[order]
        return repeated


def _mix(*numbers: int) -> int:
    """Hash numbers to a seed of 32 bits (torch's CPU generator uses no more) by an algorithm that numpy keeps."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])


def repeat_factors(samples: SampleSet, threshold: float) -> np.ndarray:
    """Return (images,) the mean number of times an image is seen in an epoch (Gupta et al., "LVIS", CVPR 2019).

    A class that occurs in a ratio f of the images has the factor max(1, sqrt(threshold / f)); an image has the maximum
    of its classes' factors, and 1 without classes.

    Raises:
        DatasetError: the layout does not list the classes of its images.
    """
    if not samples.images_of_class:
        raise DatasetError(
            f"augment.repeat_threshold needs layout coco or lvis, the data is {samples.layout}; set it to 0"
        )
    ratio = np.array(samples.images_of_class, np.float64) / len(samples.samples)
    wanted = np.maximum(1.0, np.sqrt(threshold / np.maximum(ratio, 1e-12)))
    factors = np.ones(len(samples.samples))
    for index, sample in enumerate(samples.samples):
        if sample.annotations.classes:
            factors[index] = wanted[list(set(sample.annotations.classes))].max()
    return factors
