"""Classes that do not exclude each other: labels as bits, uncertainty, and the loss, by value."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pointrend.core import (
    class_masks,
    independent_cross_entropy,
    independent_uncertainty,
    labels_of,
    resized_labels,
    semantic_cross_entropy,
    uncertainty,
)

LOGITS = torch.tensor([[[1.0, -1.0, 0.5]], [[2.0, -0.25, -3.0]], [[-4.0, -2.0, 0.0]]])[None]
"""(1, 3, 1, 3): pixels of classes 0 and 1, of none, and of class 0."""


def test_labels_are_bits_and_masks_read_them() -> None:
    labels = labels_of(LOGITS, dim=1, independent=True)
    assert labels.tolist() == [[[0b011, 0, 0b001]]]  # a logit of 0 is not above 0
    assert torch.equal(class_masks(labels, 3), LOGITS > 0)
    assert torch.equal(resized_labels(LOGITS, (1, 3), independent=True), labels)
    many = torch.ones(1, 31, 2, 2)
    assert labels_of(many, dim=1, independent=True).unique().tolist() == [2**31 - 1]
    with pytest.raises(ValueError, match="expected at most 31 independent classes, got 32"):
        labels_of(torch.ones(1, 32, 2, 2), dim=1, independent=True)
    with pytest.raises(ValueError, match="expected at most 31 independent classes, got 32"):
        resized_labels(torch.ones(1, 32, 2, 2), (2, 2), independent=True)


def test_uncertainty_is_the_logit_closest_to_zero() -> None:
    assert independent_uncertainty(LOGITS, dim=1).tolist() == [[[-1.0, -0.25, 0.0]]]
    assert torch.equal(uncertainty(LOGITS, dim=1, independent=True), independent_uncertainty(LOGITS, dim=1))
    assert torch.equal(uncertainty(LOGITS[:, :1], dim=1, independent=True), uncertainty(LOGITS[:, :1], dim=1))


@pytest.mark.parametrize("average", ["labelled", "all"])
def test_the_loss_is_the_mean_binary_cross_entropy(average: str) -> None:
    labels = torch.tensor([[[1, 255, 2]]])
    target = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]])[None]
    total = F.binary_cross_entropy_with_logits(LOGITS[..., [0, 2]], target, reduction="sum")
    expected = float(total) / (6 if average == "labelled" else 9)
    assert float(independent_cross_entropy(LOGITS, labels, average=average)) == pytest.approx(expected)  # type: ignore[arg-type]
    stacked = torch.tensor([[[0, 255, 0]], [[1, 255, 0]], [[0, 255, 1]]])[None]
    assert float(independent_cross_entropy(LOGITS, stacked, average=average)) == pytest.approx(expected)  # type: ignore[arg-type]


def test_one_class_is_the_binary_loss_and_weights_count_by_class() -> None:
    labels = torch.tensor([[[1, 0, 255]]])
    alone = independent_cross_entropy(LOGITS[:, :1], labels[:, None])
    assert float(alone) == pytest.approx(float(semantic_cross_entropy(LOGITS[:, :1], labels)))
    weights = torch.tensor([1.0, 0.0, 0.0])
    first = independent_cross_entropy(LOGITS, torch.tensor([[[0, 1, 255]]]), class_weights=weights)
    expected = F.binary_cross_entropy_with_logits(LOGITS[0, 0, 0, :2], torch.tensor([1.0, 0.0]))
    assert float(first) == pytest.approx(float(expected))


def test_nothing_labelled_is_zero_with_a_graph() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = independent_cross_entropy(logits, torch.full((1, 1, 3), 255))
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(logits.grad.abs().sum()) == 0


def test_labels_that_do_not_fit_are_said() -> None:
    with pytest.raises(ValueError, match=r"labels must be 0 to 2, or 255 \(ignored\), got also 3"):
        independent_cross_entropy(LOGITS, torch.full((1, 1, 3), 3))
    with pytest.raises(ValueError, match=r"labels must be 0 or 1, or 255 \(ignored\), got also 2"):
        independent_cross_entropy(LOGITS, torch.full((1, 3, 1, 3), 2))
    with pytest.raises(ValueError, match=r"disagree: \(1, 3, 1, 3\), \(1, 2, 3\)"):
        independent_cross_entropy(LOGITS, torch.zeros(1, 2, 3))
