"""Samples that are seen more often than others."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointrend.data import IterationBatchSampler

REPEATS = st.lists(st.floats(0.05, 7), min_size=1, max_size=20).map(np.array)


def epochs(repeats: np.ndarray, count: int, *, seed: int = 0) -> list[list[int]]:
    """The indices of `count` epochs."""
    length = IterationBatchSampler(len(repeats), batch_size=1, seed=seed, iterations=0, repeats=repeats).epoch_length
    sampler = IterationBatchSampler(len(repeats), batch_size=1, seed=seed, iterations=count * length, repeats=repeats)
    indices = [index for index, _ in chain.from_iterable(sampler)]
    return [indices[first : first + length] for first in range(0, count * length, length)]


@pytest.mark.parametrize("seed", [0, 3, 2**40])
def test_without_repeats_nothing_changed(seed: int) -> None:
    """Orders and seeds as they were before there were repeats: trainings that are resumed go on."""

    def mix(*numbers: int) -> int:
        return int(np.random.SeedSequence(numbers).generate_state(1, np.uint32)[0])

    sampler = IterationBatchSampler(10, batch_size=4, seed=seed, iterations=8)
    assert sampler.epoch_length == 10
    expected = []
    for epoch in range(4):
        generator = torch.Generator().manual_seed(mix(seed, 0, epoch))
        order = torch.randperm(10, generator=generator).tolist()
        expected += [(index, mix(seed, 1, 10 * epoch + place)) for place, index in enumerate(order)]
    assert list(chain.from_iterable(sampler)) == expected[:32]


def test_once_each_is_the_same_as_none() -> None:
    once, none = (
        IterationBatchSampler(10, batch_size=4, seed=3, iterations=9, repeats=repeats)
        for repeats in (np.ones(10), None)
    )
    assert list(once) == list(none)


@given(REPEATS, st.integers(0, 2**31))
@settings(max_examples=30)
def test_each_epoch_rounds_what_is_asked_up_or_down(repeats: np.ndarray, seed: int) -> None:
    length = int(np.ceil(repeats.sum()))
    wanted = repeats * length / repeats.sum()
    for epoch in epochs(repeats, 3, seed=seed):
        assert len(epoch) == length
        counts = np.bincount(epoch, minlength=len(repeats))
        assert len(counts) == len(repeats)
        assert (counts >= np.floor(wanted - 1e-6)).all()
        assert (counts <= np.ceil(wanted + 1e-6)).all()


def test_over_many_epochs_it_is_what_is_asked() -> None:
    repeats = np.array([1.0, 1.5, 0.25, 3.0, 1.25, 1.0])
    counts = Counter(chain.from_iterable(epochs(repeats, 600)))
    assert repeats.sum() == 8  # the epoch's length, so nothing is scaled
    for index, wanted in enumerate(repeats):
        assert counts[index] / 600 == pytest.approx(wanted, abs=0.08)


def test_shares_of_different_samples_fall_on_different_epochs() -> None:
    """Rounding is drawn anew for each epoch, and orders differ."""
    found = epochs(np.full(8, 1.25), 40)
    assert len({tuple(sorted(epoch)) for epoch in found}) > 3
    assert len({tuple(epoch) for epoch in found}) == 40


def test_an_order_is_shuffled() -> None:
    """Repeats of a sample do not follow each other."""
    epoch = epochs(np.full(20, 4.0), 1)[0]
    assert sum(a == b for a, b in pairwise(epoch)) < 20


@given(REPEATS, st.integers(1, 7), st.integers(0, 15), st.data())
@settings(max_examples=30)
def test_resumed_is_continued(repeats: np.ndarray, batch: int, iterations: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, iterations))
    whole, rest = (
        IterationBatchSampler(
            len(repeats), batch_size=batch, seed=5, iterations=iterations, start_iteration=first, repeats=repeats
        )
        for first in (0, start)
    )
    assert list(rest) == list(whole)[start:]


def test_processes_share_the_global_batch() -> None:
    repeats = np.array([1.0, 2.5, 0.5, 1.75, 4.0])
    alone = IterationBatchSampler(5, batch_size=6, seed=1, iterations=7, repeats=repeats)
    ranks = [
        IterationBatchSampler(5, batch_size=2, seed=1, iterations=7, rank=rank, world_size=3, repeats=repeats)
        for rank in range(3)
    ]
    assert [list(chain(*batches)) for batches in zip(*ranks, strict=True)] == list(alone)


def test_repeats_of_a_sample_are_augmented_differently() -> None:
    sampler = IterationBatchSampler(2, batch_size=1, seed=0, iterations=40, repeats=np.array([1.0, 9.0]))
    seeds = [seed for _, seed in chain.from_iterable(sampler)]
    assert len(set(seeds)) == 40


@pytest.mark.parametrize(
    "repeats",
    [np.ones(4), np.ones((5, 1)), np.array([1, 1, 0, 1, 1.0]), np.array([1, 1, -1, 1, 1.0]), np.full(5, np.nan)],
)
def test_wrong_repeats_are_one_line(repeats: np.ndarray) -> None:
    with pytest.raises(ValueError, match="repeats must be 5 numbers above 0") as error:
        IterationBatchSampler(5, batch_size=1, seed=0, iterations=1, repeats=repeats)
    assert "\n" not in str(error.value)
