"""Losses and matching costs of queries beside those of transformers' Mask2Former: values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from pointrend.core import (
    QUERY_SAMPLING,
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

theirs = pytest.importorskip(
    "transformers.models.mask2former.modeling_mask2former", reason="needs transformers, to compare with"
)

CLASSES = 4
SIZES = [(40, 56), (40, 56), (40, 56)]
COUNTS = [3, 0, 5]
QUERIES = 8


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def compared(ours: Callable[[Tensor], Tensor], others: Callable[[Tensor], Tensor], logits: Tensor) -> None:
    """The values, and the gradients of their sum weighted by random numbers, agree."""
    results = []
    for function in (ours, others):
        x = logits.clone().requires_grad_()
        value = function(x)
        (value * torch.rand(value.shape, generator=seeded(9))).sum().backward()
        results.append((value.detach(), x.grad))
    (value, gradient), (expected, expected_gradient) = results
    torch.testing.assert_close(value, expected, atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(gradient, expected_gradient, atol=2e-10, rtol=2e-5)
    assert gradient is not None
    assert gradient.count_nonzero()


def logits_and_targets(rows: int, columns: int, kind: str, points: int = 12544) -> tuple[Tensor, Tensor]:
    targets = torch.rand(columns, points, generator=seeded(1))
    return torch.randn(rows, points, generator=seeded(0)) * 3, targets if kind == "soft" else targets.round()


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("num_masks", [6, 17.5])
def test_losses_at_points(kind: str, num_masks: float) -> None:
    logits, targets = logits_and_targets(6, 6, kind)
    for ours, others in [
        (mask_point_loss, theirs.sigmoid_cross_entropy_loss),
        (mask_dice_loss, theirs.dice_loss),
    ]:
        compared(
            lambda x, ours=ours: ours(x, targets, num_masks=num_masks),
            lambda x, others=others: others(x, targets, num_masks),
            logits,
        )


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_costs_of_pairs(kind: str) -> None:
    logits, targets = logits_and_targets(10, 7, kind)
    for ours, others in [
        (pairwise_mask_point_loss, theirs.pair_wise_sigmoid_cross_entropy_loss),
        (pairwise_mask_dice_loss, theirs.pair_wise_dice_loss),
    ]:
        compared(lambda x, ours=ours: ours(x, targets), lambda x, others=others: others(x, targets), logits)


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_reading_masks_and_logits_at_points(padding: Any) -> None:
    masks = torch.rand(5, 37, 50, generator=seeded(0)) > 0.5
    points = torch.rand(5, 3000, 2, generator=seeded(1)) * 1.04 - 0.02
    expected = theirs.sample_point(masks[:, None].float(), points, align_corners=False, padding_mode=padding)[:, 0]
    for given in (masks, masks.float()):
        torch.testing.assert_close(mask_targets(given, points, padding=padding), expected, atol=2e-5, rtol=0)
    logits = torch.randn(5, 19, 23, generator=seeded(2))

    def ours(x: Tensor) -> Tensor:
        return sample_points(x[:, None], points, padding=padding)[..., 0]

    def others(x: Tensor) -> Tensor:
        found: Tensor = theirs.sample_point(x[:, None], points, align_corners=False, padding_mode=padding)[:, 0]
        return found

    compared(ours, others, logits)


def loss_of(sampling: Sampling) -> Any:
    """Their loss, with the numbers that their configuration has by itself but for the points and the classes."""
    config = theirs.Mask2FormerConfig(num_labels=CLASSES, train_num_points=sampling.num_points)
    assert (config.oversample_ratio, config.importance_sample_ratio) == (sampling.oversample, sampling.importance)
    return theirs.Mask2FormerLoss(config, weight_dict={})


def test_the_numbers_are_theirs() -> None:
    config = theirs.Mask2FormerConfig()
    ours = (QUERY_SAMPLING.num_points, QUERY_SAMPLING.oversample, QUERY_SAMPLING.importance)
    assert ours == (config.train_num_points, config.oversample_ratio, config.importance_sample_ratio)


def batch() -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Logits of masks (N, Q, h, w) and of classes (N, Q, C + 1); masks and classes of each image."""
    mask_logits = F.interpolate(torch.randn(3, QUERIES, 5, 7, generator=seeded(0)) * 4, (20, 28), mode="bilinear")
    class_logits = torch.randn(3, QUERIES, CLASSES + 1, generator=seeded(1))
    masks = [
        (F.interpolate(torch.randn(1, count, 4, 5, generator=seeded(2)), size, mode="bilinear")[0] > 0).float()
        if count
        else torch.zeros(0, *size)
        for count, size in zip(COUNTS, SIZES, strict=True)
    ]
    classes = [torch.randint(CLASSES, (count,), generator=seeded(3)) for count in COUNTS]
    return mask_logits, class_logits, masks, classes


@pytest.mark.parametrize("num_points", [196, 12544])
def test_a_batch_from_matching_to_gradients(num_points: int) -> None:
    """Their whole loss but that of the classes, from one state of the random numbers; an image has no masks."""
    mask_logits, class_logits, masks, classes = batch()
    sampling = Sampling(num_points=num_points)
    their_logits = mask_logits.clone().requires_grad_()
    torch.manual_seed(5)
    expected = loss_of(sampling)(their_logits, class_logits, masks, classes)
    (expected["loss_mask"] * 5 + expected["loss_dice"] * 5).backward()

    our_logits = mask_logits.clone().requires_grad_()
    torch.manual_seed(5)
    matched, wanted = [], []
    for image in range(3):
        costs = matching_costs(our_logits[image], masks[image].bool(), num_points=num_points)
        total = 5 * costs.cross_entropy + 5 * costs.dice - 2 * class_logits[image].softmax(-1)[:, classes[image]]
        rows, columns = linear_sum_assignment(total)
        matched.append(our_logits[image, rows])
        wanted.append(masks[image][columns].bool())
    losses = matched_mask_losses(torch.cat(matched), torch.cat(wanted), sampling=sampling)
    (losses.cross_entropy * 5 + losses.dice * 5).backward()

    torch.testing.assert_close(losses.cross_entropy, expected["loss_mask"], atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(losses.dice, expected["loss_dice"], atol=2e-6, rtol=2e-6)
    assert our_logits.grad is not None
    assert their_logits.grad is not None
    torch.testing.assert_close(our_logits.grad, their_logits.grad, atol=1e-8, rtol=1e-4)
    assert their_logits.grad.count_nonzero()


def test_losses_of_masks_at_given_points(monkeypatch: pytest.MonkeyPatch) -> None:
    mask_logits, _, masks, _ = batch()
    pairs = [(torch.tensor([4, 0, 7]), torch.tensor([2, 0, 1])), (torch.tensor([], dtype=torch.int64),) * 2]
    pairs.append((torch.arange(5), torch.arange(5).flip(0)))
    wanted = torch.cat([one[columns] for one, (_, columns) in zip(masks, pairs, strict=True)])
    results = []
    points = torch.rand(8, 12544, 2, generator=seeded(4))

    def their_losses(logits: Tensor) -> tuple[Tensor, Tensor]:
        criterion = loss_of(QUERY_SAMPLING)
        monkeypatch.setattr(criterion, "sample_points_using_uncertainty", lambda *_: points)
        found = criterion.loss_masks(logits, masks, pairs, 11)
        return found["loss_mask"], found["loss_dice"]

    def our_losses(logits: Tensor) -> tuple[Tensor, Tensor]:
        matched = torch.cat([one[rows] for one, (rows, _) in zip(logits, pairs, strict=True)])
        at_points = sample_points(matched[:, None], points)[..., 0]
        targets = mask_targets(wanted.bool(), points)
        return mask_point_loss(at_points, targets, num_masks=11), mask_dice_loss(at_points, targets, num_masks=11)

    for function in (our_losses, their_losses):
        logits = mask_logits.clone().requires_grad_()
        values = function(logits)
        results.append(
            [*(v.detach() for v in values), *(torch.autograd.grad(v, logits, retain_graph=True)[0] for v in values)]
        )
    for ours, others in zip(*results, strict=True):
        torch.testing.assert_close(ours, others, atol=1e-9, rtol=2e-5)


def test_points_are_those_that_theirs_draw() -> None:
    logits = torch.randn(6, 1, 20, 28, generator=seeded(0))
    criterion = loss_of(QUERY_SAMPLING)
    torch.manual_seed(3)
    expected = criterion.sample_points_using_uncertainty(logits, criterion.calculate_uncertainty, 12544, 3.0, 0.75)
    torch.manual_seed(3)
    found = training_points(logits, QUERY_SAMPLING)
    assert torch.equal(found, expected)
