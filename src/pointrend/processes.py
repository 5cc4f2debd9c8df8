"""Processes that share a job, as `torchrun` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pointrend.errors import PointRendError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """This process among those that share a job."""

    rank: int = 0
    """From 0 to `count` - 1."""
    count: int = 1

    @property
    def first(self) -> bool:
        """Return whether this process reports for all."""
        return self.rank == 0

    def mine(self, items: Sequence[Item]) -> list[tuple[int, Item]]:
        """Return this process's items with their numbers: every item belongs to exactly one process."""
        return [(index, items[index]) for index in range(self.rank, len(items), self.count)]

    def gathered(self, value: Any) -> list[Any]:
        """Return the values of all processes, which must all call this, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values


ALONE = Processes()


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes of a training, which must all call this; alone, the tensor.

    Gradients of several processes are averaged, each of its own part of a batch. A loss that every process divides by
    the mean of their counts, instead of its own count, has the gradients of the whole batch.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


@contextmanager
def started_by_torchrun(device: str) -> Iterator[tuple[Processes, str]]:
    """Join the processes that `torchrun` started, and yield them with the device of this one; without it, only itself.

    On CUDA, each process of a machine takes the device of its local rank.

    Raises:
        PointRendError: a device with a number, which all processes would share, or the processes cannot be joined.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or not dist.is_available():
        yield ALONE, device
        return
    if device.startswith("cuda"):
        if device != "cuda":
            raise PointRendError(
                f"with {count} processes the device must be cuda, and each takes its own; got {device}"
            )
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    try:
        # Objects are gathered in the memory of the host, whatever the device is.
        dist.init_process_group("gloo")
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PointRendError(f"the {count} processes of torchrun could not be joined: {reason}") from error
    try:
        yield Processes(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
