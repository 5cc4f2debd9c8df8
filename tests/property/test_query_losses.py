"""What holds for the losses and costs of any queries, masks and points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pointrend.core import (
    Sampling,
    mask_dice_loss,
    mask_point_loss,
    mask_targets,
    matched_mask_losses,
    pairwise_mask_dice_loss,
    pairwise_mask_point_loss,
)

COUNTS = st.integers(1, 6)
SIDES = st.integers(1, 13)
SIZES = st.tuples(SIDES, SIDES)
SEEDS = st.integers(0, 2**31)
SCALES = st.sampled_from([0.1, 1.0, 30.0])
PADDINGS = st.sampled_from(["zeros", "border"])
LOSSES = [mask_point_loss, mask_dice_loss]
PAIRWISE = [pairwise_mask_point_loss, pairwise_mask_dice_loss]
PAIRS = list(zip(LOSSES, PAIRWISE, strict=True))
examples = settings(max_examples=40)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(seed: int, masks: int, points: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logits and soft targets (masks, points), float64."""
    generator = seeded(seed)
    logits = torch.randn(masks, points, dtype=torch.float64, generator=generator) * scale
    return logits, torch.rand(masks, points, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("loss", LOSSES)
@given(COUNTS, st.integers(1, 40), SEEDS, SCALES)
@examples
def test_the_order_of_masks_and_of_points_does_not_matter(
    loss: Callable[..., Tensor], masks: int, points: int, seed: int, scale: float
) -> None:
    logits, targets = drawn(seed, masks, points, scale)
    order, places = torch.randperm(masks, generator=seeded(seed)), torch.randperm(points, generator=seeded(seed))
    expected = loss(logits, targets)
    torch.testing.assert_close(loss(logits[order], targets[order]), expected)
    torch.testing.assert_close(loss(logits[:, places], targets[:, places]), expected)


@pytest.mark.parametrize("pairwise", PAIRWISE)
@given(COUNTS, COUNTS, st.integers(1, 40), SEEDS)
@examples
def test_queries_and_masks_are_permuted_as_the_costs_are(
    pairwise: Callable[..., Tensor], queries: int, masks: int, points: int, seed: int
) -> None:
    logits, _ = drawn(seed, queries, points)
    _, targets = drawn(seed + 1, masks, points)
    rows, columns = torch.randperm(queries, generator=seeded(seed)), torch.randperm(masks, generator=seeded(seed))
    expected = pairwise(logits, targets)[rows][:, columns]
    torch.testing.assert_close(pairwise(logits[rows], targets[columns]), expected)


@pytest.mark.parametrize(("loss", "pairwise"), PAIRS)
@given(COUNTS, st.integers(1, 40), SEEDS, SCALES)
@examples
def test_the_diagonal_of_pairs_is_the_loss_of_each_mask(
    loss: Callable[..., Tensor],
    pairwise: Callable[..., Tensor],
    masks: int,
    points: int,
    seed: int,
    scale: float,
) -> None:
    """In values and, summed up, in gradients."""
    logits, targets = drawn(seed, masks, points, scale)
    logits.requires_grad_()
    each = torch.stack([loss(x[None], t[None]) for x, t in zip(logits, targets, strict=True)])
    diagonal = pairwise(logits, targets).diagonal()
    torch.testing.assert_close(diagonal, each)
    torch.testing.assert_close(diagonal.sum(), loss(logits, targets, num_masks=1))
    (expected,) = torch.autograd.grad(loss(logits, targets, num_masks=1), logits)
    (found,) = torch.autograd.grad(diagonal.sum(), logits)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@given(COUNTS, COUNTS, st.integers(1, 40), SEEDS)
@examples
def test_parts_of_a_batch_add_up(loss: Callable[..., Tensor], first: int, second: int, points: int, seed: int) -> None:
    logits, targets = drawn(seed, first + second, points)
    whole = first + second
    parts = [loss(x, t, num_masks=whole) for x, t in zip(logits.split(first), targets.split(first), strict=True)]
    torch.testing.assert_close(sum(parts), loss(logits, targets))


@given(COUNTS, SIZES, SEEDS, PADDINGS)
@examples
def test_soft_targets_are_hard_ones_at_pixel_centres_and_between_equal_pixels(
    masks: int, size: tuple[int, int], seed: int, padding: Any
) -> None:
    height, width = size
    drawn_masks = torch.rand(masks, height, width, generator=seeded(seed)) > 0.4
    points = torch.rand(masks, 30, 2, generator=seeded(seed + 1))
    hard = mask_targets(drawn_masks, points, soft=False)
    soft = mask_targets(drawn_masks, points, padding=padding)
    assert ((hard == 0) | (hard == 1)).all()
    assert ((soft >= 0) & (soft <= 1)).all()
    binary = (soft < 1e-6) | (soft > 1 - 1e-6)
    # With zeros outside of the map, the pixel of a point is one of the four that are read, but may weigh nothing.
    inner = points * torch.tensor([width, height])
    off_edges = ((inner - inner.round()).abs() > 1e-3).all(2)
    torch.testing.assert_close(soft[binary & off_edges], hard[binary & off_edges], atol=1e-5, rtol=0)
    # The hard value is that of the nearest centre, which weighs at least 1/4.
    assert ((soft - hard).abs() <= 0.75 + 1e-5)[off_edges].all()


@given(COUNTS, SIZES, SIZES, SEEDS, PADDINGS)
@examples
def test_losses_of_whole_masks_are_those_of_the_masks_one_by_one(
    masks: int, size: tuple[int, int], grid: tuple[int, int], seed: int, padding: Any
) -> None:
    """With the regular grid, so that points do not depend on who is asked together."""
    logits = torch.randn(masks, *grid, generator=seeded(seed))
    drawn_masks = torch.rand(masks, *size, generator=seeded(seed + 1)) > 0.4
    sampling = Sampling(num_points=25, regular=True)
    together = matched_mask_losses(logits, drawn_masks, sampling=sampling, padding=padding)
    alone = [
        matched_mask_losses(logits[[i]], drawn_masks[[i]], sampling=sampling, padding=padding, num_masks=masks)
        for i in range(masks)
    ]
    for ours, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(ours, sum(parts), atol=1e-5, rtol=1e-5)


class _Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [one.numel() for one in tree_leaves(result) if isinstance(one, Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


@pytest.mark.parametrize("pairwise", PAIRWISE)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 300), SEEDS)
@examples
def test_no_tensor_has_a_value_for_each_query_mask_and_point(
    pairwise: Callable[..., Tensor], queries: int, masks: int, points: int, seed: int
) -> None:
    """Forward and backward: at most the points of the queries or of the masks, or the costs."""
    logits = drawn(seed, queries, points)[0].requires_grad_()
    targets = drawn(seed + 1, masks, points)[1]
    with _Largest() as largest:
        pairwise(logits, targets).sum().backward()
    assert largest.elements <= max(queries * points, masks * points, queries * masks)
