"""Images that cannot be read in the middle of a training, and processes that die."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import Dataset

from pointrend.data import DatasetError, InputSpec, SemanticBatch, semantic_batch
from pointrend.errors import PointRendWarning
from pointrend.recipes import TrainSettings
from pointrend.training.bad_batch import write_batch
from pointrend.training.batches import batches, dead_readers_named

COUNT = 6


class Numbers(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images that are their own number; some are broken."""

    def __init__(self, broken: dict[int, Exception | None]) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        index, _ = key
        if index in self.broken:
            if (error := self.broken[index]) is None:
                os._exit(9)
            raise error
        return torch.full((3, 2, 2), float(index)), torch.zeros(2, 2, dtype=torch.int64)


def loaded(broken: dict[int, Exception | None], *, max_bad: int = 0, workers: int = 0) -> list[list[int]]:
    """The numbers of the images in each batch of an epoch."""
    settings = TrainSettings(iterations=3, batch_size=2, workers=workers)
    training: Any = SimpleNamespace(
        recipe=SimpleNamespace(train=settings, data=SimpleNamespace(max_bad=max_bad)),
        count=COUNT,
        repeats=None,
        dataset=lambda: Numbers(broken),
        task=SimpleNamespace(collate=semantic_batch),
    )
    fabric: Any = SimpleNamespace(world_size=1, global_rank=0, device=torch.device("cpu"))
    with dead_readers_named():
        return [[int(value) for value in batch.images[:, 0, 0, 0]] for batch in batches(training, fabric, start=0)]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_said_and_the_next_one_takes_its_place(workers: int) -> None:
    whole = loaded({})
    assert sorted(index for batch in whole for index in batch) == list(range(COUNT))
    broken = {2: DatasetError("two.png: is damaged"), 3: OSError("three.png: gone")}
    with pytest.warns(PointRendWarning) as said:
        found = loaded(broken, max_bad=2, workers=workers)
    assert found == [[4 if index in (2, 3) else index for index in batch] for batch in whole]
    first, second = (str(warning.message) for warning in said)
    assert first.startswith("left out, 1 of at most 2 (data.max_bad): ")
    assert second.startswith("left out, 2 of at most 2 (data.max_bad): ")
    assert {first[41:], second[41:]} == {"two.png: is damaged", "three.png: gone"}


@pytest.mark.parametrize("workers", [0, 1])
def test_one_too_many_ends_the_training_in_one_line(workers: int) -> None:
    with pytest.raises(DatasetError, match=r"^two\.png: is damaged$"):
        loaded({2: DatasetError("two.png: is damaged")}, workers=workers)
    broken = {index: DatasetError(f"{index}.png: is damaged") for index in (1, 4)}
    with (
        pytest.warns(PointRendWarning, match="left out, 1 of at most 1"),
        pytest.raises(DatasetError, match=r"^\d\.png: is damaged; data\.max_bad allows 1 such images$"),
    ):
        loaded(broken, max_bad=1, workers=workers)


def test_a_disk_that_is_gone_is_one_line() -> None:
    broken = {index: OSError(f"{index}.png: gone") for index in range(COUNT)}
    with pytest.warns(PointRendWarning), pytest.raises(DatasetError, match=r"none of the images can be read, first \d"):
        loaded(broken, max_bad=COUNT)


def test_a_process_that_dies_is_named() -> None:
    with pytest.raises(DatasetError, match=r"^the process \d+ that reads images died.*fewer train\.workers") as error:
        loaded({3: None}, workers=1)
    assert "\n" not in str(error.value)


def test_a_bad_batch_is_written_for_a_look(tmp_path: Path) -> None:
    images = torch.zeros(2, 3, 4, 5)
    images[1, 0] = 1
    images[1, 1, 0, 0] = torch.nan
    labels = torch.arange(40).view(2, 4, 5)
    input = InputSpec(mean=(100, 50, 25), std=(20, 10, 5))
    path = write_batch([SemanticBatch(images, labels)], tmp_path, "12-0", input)
    assert path == tmp_path / "bad-batch-12-0.png"
    pixels = np.asarray(Image.open(path))
    assert pixels.shape == (4, 10, 3)
    assert pixels[2, 2].tolist() == [100, 50, 25]
    assert pixels[2, 7].tolist() == [120, 50, 25]
    tensors = load_file(tmp_path / "bad-batch-12-0.safetensors")
    assert torch.equal(tensors["0.labels"], labels)
    assert bool(tensors["0.images"].isnan().any())
