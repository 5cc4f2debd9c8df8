"""The batches of a training, and what happens where an image cannot be read."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader, Dataset

from pointrend.data import DatasetError, IterationBatchSampler
from pointrend.errors import PointRendError, warn
from pointrend.training.prepare import Training


class _Loaded(NamedTuple):
    """An item or a batch, and the images that could not be read, by number."""

    content: Any
    problems: dict[int, str]


@dataclass(frozen=True)
class _Tolerant(Dataset[_Loaded]):
    """A data set that gives the next image in the place of one that cannot be read, at most `maximum` times."""

    dataset: Any
    maximum: int

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> _Loaded:
        index, seed = key
        problems: dict[int, str] = {}
        for step in range(min(self.maximum + 1, len(self))):
            at = (index + step) % len(self)
            try:
                return _Loaded(self.dataset[at, seed], problems)
            except (PointRendError, OSError) as error:
                problems[at] = " ".join(str(error).split())
        return _Loaded(None, problems)


@dataclass(frozen=True)
class _Collate:
    """Collates what could be read."""

    collate: Callable[[list[Any]], Any]

    def __call__(self, items: list[_Loaded]) -> _Loaded:
        problems = {index: text for item in items for index, text in item.problems.items()}
        complete = all(item.content is not None for item in items)
        return _Loaded(self.collate([item.content for item in items]) if complete else None, problems)


def batches(training: Training, fabric: Fabric, *, start: int) -> Generator[Any]:
    """Yield the parts of the batches of this process, `train.accumulate` an iteration, from the iteration `start`.

    Raises:
        DatasetError: more than `data.max_bad` images cannot be read, or a process that reads them died.
    """
    settings = training.recipe.train
    maximum = getattr(training.recipe.data, "max_bad", 0)
    parts = settings.accumulate
    sampler = IterationBatchSampler(
        training.count,
        batch_size=settings.batch_size // (fabric.world_size * parts),
        seed=settings.seed,
        iterations=settings.iterations * parts,
        start_iteration=start * parts,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        repeats=training.repeats,
    )
    loader = DataLoader(
        _Tolerant(training.dataset(), maximum),
        batch_sampler=sampler,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
        prefetch_factor=4 if settings.workers else None,
        collate_fn=_Collate(training.task.collate),
        worker_init_fn=_outlive_sigterm,
    )
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    bad: dict[int, str] = {}
    for loaded in loader:
        for index, text in loaded.problems.items():
            if index not in bad:
                bad[index] = text
                if len(bad) > maximum:
                    allowed = f"; data.max_bad allows {maximum} such images" if maximum else ""
                    raise DatasetError(f"{text}{allowed}")
                warn(f"left out, {len(bad)} of at most {maximum} (data.max_bad): {text}")
        if loaded.content is None:
            raise DatasetError(f"none of the images can be read, first {next(iter(loaded.problems.values()))}")
        yield loaded.content.to(fabric.device, layout)


def _outlive_sigterm(_: int) -> None:
    """Let a process that reads images ignore SIGTERM, which clusters send to all: the training ends it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def dead_readers_named() -> Iterator[None]:
    """Say in one line that a process that reads images died; PyTorch raises that wherever the training happens to be.

    Raises:
        DatasetError: one died.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        found = re.search(r"pid\(?s?\)?\D*(\d+)", str(error))
        cause = re.search(r"killed by signal: (\w+)|exited unexpectedly with exit code (\d+)", str(error))
        how = f" ({' '.join(cause.group(0).split())})" if cause else ""
        raise DatasetError(
            f"the process {found.group(1) if found else ''} that reads images died{how}, often for lack of memory: "
            "try fewer train.workers, and continue with --resume"
        ) from error
