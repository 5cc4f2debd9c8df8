"""Losses and costs of masks that queries predict: values by formula, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pointrend.core import (
    QUERY_SAMPLING,
    QueryLosses,
    Sampling,
    mask_dice_loss,
    mask_point_loss,
    mask_targets,
    matched_mask_losses,
    matching_costs,
    pairwise_mask_dice_loss,
    pairwise_mask_point_loss,
    sample_points,
    training_points,
)

LOGITS = torch.tensor([[0.0, math.log(3), -math.log(3), 0.0], [math.log(4), math.log(4), 0.0, -math.log(4)]])
PROBABILITIES = [[0.5, 0.75, 0.25, 0.5], [0.8, 0.8, 0.5, 0.2]]
TARGETS = torch.tensor([[1.0, 1.0, 0.0, 0.25], [0.0, 1.0, 1.0, 0.0]])
LOSSES = [mask_point_loss, mask_dice_loss]
PAIRWISE = [pairwise_mask_point_loss, pairwise_mask_dice_loss]
FEW = Sampling(num_points=20)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dice(probabilities: list[float], targets: list[float]) -> float:
    both = sum(p * t for p, t in zip(probabilities, targets, strict=True))
    return 1 - (2 * both + 1) / (sum(probabilities) + sum(targets) + 1)


def cross_entropy(probabilities: list[float], targets: list[float]) -> float:
    each = [-t * math.log(p) - (1 - t) * math.log(1 - p) for p, t in zip(probabilities, targets, strict=True)]
    return sum(each) / len(each)


def test_the_numbers_are_those_of_mask2former() -> None:
    assert (QUERY_SAMPLING.num_points, QUERY_SAMPLING.oversample, QUERY_SAMPLING.importance) == (12544, 3, 0.75)


def test_dice_by_its_formula() -> None:
    each = [dice(p, t) for p, t in zip(PROBABILITIES, TARGETS.tolist(), strict=True)]
    assert float(mask_dice_loss(LOGITS, TARGETS)) == pytest.approx(sum(each) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("function", "formula"), [(pairwise_mask_point_loss, cross_entropy), (pairwise_mask_dice_loss, dice)]
)
def test_every_pair_by_the_formula(function: object, formula: object) -> None:
    targets = torch.cat((TARGETS, torch.zeros(1, 4)))
    expected = [[formula(p, t) for t in targets.tolist()] for p in PROBABILITIES]  # type: ignore[operator]
    torch.testing.assert_close(function(LOGITS, targets), torch.tensor(expected))  # type: ignore[operator]


def test_nothing_where_nothing_should_be_is_no_dice_loss() -> None:
    assert float(mask_dice_loss(torch.full((1, 5), -200.0), torch.zeros(1, 5))) == 0


@pytest.mark.parametrize("function", LOSSES)
@pytest.mark.parametrize("number", [4, 4.0, torch.tensor(4.0)])
def test_sums_are_divided_by_the_number_of_masks(function: object, number: float | Tensor) -> None:
    mean = function(LOGITS, TARGETS)  # type: ignore[operator]
    torch.testing.assert_close(function(LOGITS, TARGETS, num_masks=number), mean / 2)  # type: ignore[operator]


@pytest.mark.parametrize("function", LOSSES)
@pytest.mark.parametrize("number", [0, 0.25, torch.tensor(0.25)])
def test_fewer_masks_than_one_count_as_one(function: object, number: float | Tensor) -> None:
    mean = function(LOGITS, TARGETS)  # type: ignore[operator]
    torch.testing.assert_close(function(LOGITS, TARGETS, num_masks=number), mean * 2)  # type: ignore[operator]


@pytest.mark.parametrize("function", LOSSES)
@pytest.mark.parametrize("number", [None, 0, 3.0, torch.tensor(0.0)])
@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (3, 0)])
def test_nothing_has_a_loss_of_zero_with_gradients(
    function: object, number: float | None, shape: tuple[int, int]
) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    loss = function(logits, torch.zeros(shape), num_masks=number)  # type: ignore[operator]
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None


@pytest.mark.parametrize("function", [*LOSSES, *PAIRWISE])
def test_half_precision_and_autocast_are_computed_in_float32(function: object) -> None:
    logits = torch.randn(3, 700, generator=generator()).bfloat16() * 4
    targets = torch.rand(3, 700, generator=generator(1))
    expected = function(logits.float(), targets)  # type: ignore[operator]
    with torch.autocast("cpu", torch.bfloat16):
        found = function(logits, targets)  # type: ignore[operator]
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert function(logits.double(), targets).dtype == torch.float64  # type: ignore[operator]


@pytest.mark.parametrize("function", [*LOSSES, *PAIRWISE])
def test_gradients(function: object) -> None:
    logits = torch.randn(3, 6, dtype=torch.float64, generator=generator(), requires_grad=True)
    targets = torch.rand(3, 6, dtype=torch.float64, generator=generator(1))
    assert torch.autograd.gradcheck(lambda x: function(x, targets), logits)  # type: ignore[operator]


def test_sure_logits_keep_small_and_large_losses() -> None:
    """The shorter form of the cross entropy of pairs, sum(softplus(x)) - x @ t, loses the small ones."""
    targets = (torch.arange(8000) % 2).float().expand(1, -1)
    right = (targets * 2 - 1) * 14
    assert float(pairwise_mask_point_loss(right, targets)) == pytest.approx(math.log1p(math.exp(-14)), rel=1e-3)
    assert float(pairwise_mask_point_loss(-1000 * right, targets)) == pytest.approx(14000, rel=1e-5)


# Reading masks


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("soft", [True, False])
def test_the_type_of_masks_does_not_matter(soft: bool, padding: str) -> None:
    masks = torch.rand(3, 9, 7, generator=generator()) > 0.5
    points = torch.rand(3, 200, 2, generator=generator(1))
    expected = mask_targets(masks.float(), points, soft=soft, padding=padding)  # type: ignore[arg-type]
    assert bool(((expected > 0) & (expected < 1)).any()) is soft
    for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64):
        found = mask_targets(masks.to(dtype), points, soft=soft, padding=padding)  # type: ignore[arg-type]
        torch.testing.assert_close(found.float(), expected, atol=1e-5, rtol=0)
        assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_padding_decides_at_the_border_of_soft_targets_only() -> None:
    masks, corner = torch.ones(1, 4, 4), torch.zeros(1, 1, 2)
    for given in (masks, masks.bool()):
        assert mask_targets(given, corner).item() == pytest.approx(0.25)
        assert mask_targets(given, corner, padding="border").item() == 1
        assert mask_targets(given, corner, soft=False).item() == 1


def test_hard_targets_are_those_of_the_pixel_that_a_point_lies_in() -> None:
    masks = torch.tensor([[[0, 1, 0, 1]]])
    points = torch.tensor([[[0.24, 0.5], [0.26, 0.5], [0.49, 0.5], [0.51, 0.5], [1.0, 1.0]]])
    assert mask_targets(masks, points, soft=False).tolist() == [[0, 1, 1, 0, 1]]


@pytest.mark.parametrize("value", [255, -1, float("nan")])
@pytest.mark.parametrize("soft", [True, False])
def test_masks_of_other_values_are_refused(value: float, soft: bool) -> None:
    with pytest.raises(ValueError, match=r"masks must be bool or in \[0, 1\], got"):
        mask_targets(torch.full((1, 4, 4), value), torch.rand(1, 8, 2, generator=generator()), soft=soft)


# Whole masks


def test_matched_losses_are_those_at_training_points() -> None:
    logits = torch.randn(4, 12, 10, generator=generator(), requires_grad=True)
    masks = torch.rand(4, 48, 40, generator=generator(1)) > 0.5
    found = matched_mask_losses(logits, masks, sampling=FEW, num_masks=7, generator=generator(2))
    points = training_points(logits[:, None], FEW, generator=generator(2))
    at_points = sample_points(logits[:, None], points)[..., 0]
    targets = sample_points(masks[:, None].float(), points)[..., 0]
    torch.testing.assert_close(found.cross_entropy, mask_point_loss(at_points, targets, num_masks=7))
    torch.testing.assert_close(found.dice, mask_dice_loss(at_points, targets, num_masks=7))
    (found.cross_entropy + found.dice).backward()
    assert logits.grad is not None
    assert all(one.count_nonzero() for one in logits.grad)


def test_costs_are_those_at_points_that_all_share() -> None:
    logits = torch.randn(5, 12, 10, generator=generator(), requires_grad=True)
    masks = torch.rand(3, 48, 40, generator=generator(1)) > 0.5
    found = matching_costs(logits, masks, num_points=50, generator=generator(2))
    assert not found.cross_entropy.requires_grad
    assert found.cross_entropy.shape == found.dice.shape == (5, 3)
    points = torch.rand(1, 50, 2, generator=generator(2))
    for query in range(5):
        for mask in range(3):
            x = sample_points(logits.detach()[None, [query]], points)[..., 0]
            t = sample_points(masks[None, [mask]].float(), points)[..., 0]
            assert float(found.cross_entropy[query, mask]) == pytest.approx(float(mask_point_loss(x, t)), rel=1e-5)
            assert float(found.dice[query, mask]) == pytest.approx(float(mask_dice_loss(x, t)), rel=1e-5)


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_whole_masks_are_read_as_asked_for(soft: bool, padding: Any) -> None:
    """On small maps, where the border is everywhere: points, logits and targets all depend on the padding."""
    logits = torch.randn(3, 2, 2, generator=generator()) * 5
    masks = torch.rand(3, 4, 4, generator=generator(1)) > 0.5
    losses = matched_mask_losses(logits, masks, sampling=FEW, soft=soft, padding=padding, generator=generator(2))
    points = training_points(logits[:, None], FEW, padding=padding, generator=generator(2))
    at_points = sample_points(logits[:, None], points, padding=padding)[..., 0]
    targets = mask_targets(masks, points, soft=soft, padding=padding)
    assert losses == (mask_point_loss(at_points, targets), mask_dice_loss(at_points, targets))

    costs = matching_costs(logits, masks, num_points=40, soft=soft, padding=padding, generator=generator(2))
    points = torch.rand(1, 40, 2, generator=generator(2)).expand(3, -1, -1)
    at_points = sample_points(logits[:, None], points, padding=padding)[..., 0]
    targets = mask_targets(masks, points, soft=soft, padding=padding)
    torch.testing.assert_close(costs.cross_entropy, pairwise_mask_point_loss(at_points, targets))
    torch.testing.assert_close(costs.dice, pairwise_mask_dice_loss(at_points, targets))


def test_targets_of_a_full_mask_are_no_more_than_one() -> None:
    """Weights of four pixels add up to 1 and a bit."""
    points = torch.rand(1, 20000, 2, generator=generator())
    for masks in (torch.ones(1, 37, 50), torch.ones(1, 37, 50, dtype=torch.bool)):
        for padding in ("zeros", "border"):
            assert mask_targets(masks, points, padding=padding).max() == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("queries", [0, 3])
def test_images_without_masks_or_queries(queries: int) -> None:
    costs = matching_costs(torch.zeros(queries, 4, 4), torch.zeros(0, 8, 8), num_points=9)
    assert costs.cross_entropy.shape == costs.dice.shape == (queries, 0)
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    for masks in (torch.zeros(0, 8, 8), torch.zeros(0, 8, 8, dtype=torch.bool)):
        losses = matched_mask_losses(logits, masks)
        assert losses == QueryLosses(torch.tensor(0.0), torch.tensor(0.0))
        sum(losses).backward()  # type: ignore[union-attr]
    assert logits.grad is not None


# What is refused


@pytest.mark.parametrize("function", LOSSES)
@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2, 3), (1, 3)), ((2, 3, 1), (2, 3, 1))])
def test_losses_refuse_shapes_that_disagree(function: object, shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(R, P\), of one shape, got \(2, 3"):
        function(torch.zeros(shapes[0]), torch.zeros(shapes[1]))  # type: ignore[operator]


@pytest.mark.parametrize("function", PAIRWISE)
@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2, 3), (3,)), ((2, 3, 1), (2, 3))])
def test_pairs_refuse_shapes_that_disagree(function: object, shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"\(Q, P\) and targets \(M, P\) at the same points, got \(2, 3"):
        function(torch.zeros(shapes[0]), torch.zeros(shapes[1]))  # type: ignore[operator]


def test_whole_masks_of_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(R, h, w\) and masks \(R, H, W\), got \(2, 4, 4\) and \(3, 4, 4\)"):
        matched_mask_losses(torch.zeros(2, 4, 4), torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match=r"\(R, h, w\) and masks \(R, H, W\), got \(2, 1, 4, 4\)"):
        matched_mask_losses(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match=r"\(Q, h, w\) and masks \(M, H, W\), got \(2, 4, 4\) and \(4, 4\)"):
        matching_costs(torch.zeros(2, 4, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match=r"masks must be \(R, H, W\), got \(1, 1, 4, 4\)"):
        mask_targets(torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 2))
