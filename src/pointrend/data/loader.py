"""Which samples a training iteration sees: a pure function of the seed, the iteration and the process."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

# Keep the streams of orders and of augmentations apart.
_ORDER, _SAMPLE = 0, 1


class IterationBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (index, seed) for `SemanticDataset`, for iterations `start_iteration` up to `iterations`.

    Every sample occurs once an epoch, in an order drawn anew for each; a batch may reach into the next
    epoch. A sampler started later continues exactly as one that was never stopped, and several processes
    share each global batch, so that `world_size` processes with `batch_size` see what one with `world_size
    * batch_size` sees.

    Args:
        num_samples: length of the data set.
        batch_size: samples a process takes in an iteration.
        seed: at least 0.
        iterations: where training ends.
        start_iteration: iterations that are already done.
        rank, world_size: this process and how many there are.
        repeats: (num_samples,) how often each sample occurs in an epoch, on average; None for once each. A share of a
            time is drawn anew for each epoch.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        seed: int,
        iterations: int,
        start_iteration: int = 0,
        rank: int = 0,
        world_size: int = 1,
        repeats: np.ndarray | None = None,
    ) -> None:
        if num_samples < 1 or batch_size < 1:
            raise ValueError(f"num_samples and batch_size must be at least 1, got {num_samples} and {batch_size}")
        if repeats is not None and (repeats.shape != (num_samples,) or not (repeats > 0).all()):
            raise ValueError(f"repeats must be {num_samples} numbers above 0, got {repeats.shape}")
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0..{world_size - 1}, got {rank}")
        if not 0 <= start_iteration <= iterations:
            raise ValueError(f"start_iteration must be in 0..{iterations}, got {start_iteration}")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.iterations = iterations
        self.start_iteration = start_iteration
        self.rank = rank
        self.world_size = world_size
        self.repeats = repeats
        self.epoch_length = num_samples if repeats is None else math.ceil(float(repeats.sum()))

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
        # One draw shifts evenly spaced marks along the samples' summed repeats: each sample is hit as often as its own
        # says, rounded up or down, and all epochs are equally long, so that an iteration's epoch can be computed.
        shift = float(torch.rand((), generator=generator, dtype=torch.float64))
        bounds = np.cumsum(self.repeats, dtype=np.float64)
        marks = (np.arange(self.epoch_length) + shift) * (bounds[-1] / self.epoch_length)
        repeated: np.ndarray = np.searchsorted(bounds, marks, side="right").clip(max=self.num_samples - 1)[order]
        return repeated


def _mix(*numbers: int) -> int:
    """A seed in which every bit of the numbers counts; numpy promises to keep the algorithm.

    Torch's generator for the CPU uses no more than 32 bits of a seed, so these are all.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])
