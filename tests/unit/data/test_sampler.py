"""A training's samples depend on the seed and the iteration alone."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import torch
from data_files import write_folder
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from pointrend.data import (
    InputSpec,
    IterationBatchSampler,
    SegmentationDataset,
    SemanticAugment,
    find_samples,
    train_transform,
)


@given(
    samples=st.integers(1, 30),
    batch=st.integers(1, 12),
    seed=st.integers(0, 2**40),
    iterations=st.integers(0, 20),
    data=st.data(),
)
def test_resumed_is_continued(samples: int, batch: int, seed: int, iterations: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, iterations))
    whole = IterationBatchSampler(samples, batch_size=batch, seed=seed, iterations=iterations)
    rest = IterationBatchSampler(samples, batch_size=batch, seed=seed, iterations=iterations, start_iteration=start)
    assert list(rest) == list(whole)[start:]
    assert len(whole) == len(list(whole)) == iterations
    assert len(rest) == iterations - start


@pytest.mark.parametrize("batch", [1, 3, 4, 7, 25])
def test_every_epoch_has_every_sample_once_and_its_own_order(batch: int) -> None:
    sampler = IterationBatchSampler(10, batch_size=batch, seed=3, iterations=-(-40 // batch))
    items = list(chain.from_iterable(sampler))
    epochs = [[index for index, _ in items[start : start + 10]] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    seeds = [seed for _, seed in items]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_processes_share_the_global_batch() -> None:
    alone = IterationBatchSampler(10, batch_size=6, seed=1, iterations=5)
    ranks = [
        IterationBatchSampler(10, batch_size=2, seed=1, iterations=5, rank=rank, world_size=3) for rank in range(3)
    ]
    assert [list(chain(*batches)) for batches in zip(*ranks, strict=True)] == list(alone)


def test_seeds_differ() -> None:
    one, two = (list(IterationBatchSampler(50, batch_size=50, seed=seed, iterations=1)) for seed in (0, 1))
    assert [index for index, _ in one[0]] != [index for index, _ in two[0]]
    assert not {seed for _, seed in one[0]} & {seed for _, seed in two[0]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"rank": 2, "world_size": 2}, r"rank must be in 0\.\.1, got 2"),
        ({"start_iteration": 6}, "start_iteration"),
    ],
)
def test_bad_arguments(change: dict[str, int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        IterationBatchSampler(3, **{"batch_size": 2, "seed": 0, "iterations": 5, **change})


def test_batches_do_not_depend_on_workers_or_on_what_came_before(tmp_path: Path) -> None:
    transform = train_transform(SemanticAugment(crop=(5, 7)), InputSpec(mean=(0.0,) * 3, std=(1.0,) * 3))
    dataset = SegmentationDataset(find_samples(write_folder(tmp_path, "abcde")), transform)

    def batches(workers: int, start: int) -> list[list[torch.Tensor]]:
        sampler = IterationBatchSampler(len(dataset), batch_size=3, seed=7, iterations=4, start_iteration=start)
        return list(DataLoader(dataset, batch_sampler=sampler, num_workers=workers))

    torch.manual_seed(1)
    expected = batches(0, 0)
    torch.manual_seed(2)
    for images, labels in expected:
        assert images.shape == (3, 3, 5, 7)
        assert labels.shape == (3, 5, 7)
    for again in (batches(0, 2), batches(2, 2)):
        for (images, labels), (same_images, same_labels) in zip(expected[2:], again, strict=True):
            assert torch.equal(images, same_images)
            assert torch.equal(labels, same_labels)
