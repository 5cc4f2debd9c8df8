"""Label smoothing and the focal loss, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss

from pointrend.core import independent_cross_entropy, semantic_cross_entropy


def batch(seed: int, classes: int, *, names: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (2, C, 9) and labels (2, 9), some of them ignored, but never all."""
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(2, classes, 9, generator=generator, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(0, names or max(2, classes), (2, 9), generator=generator)
    labels[torch.rand(2, 9, generator=generator) < 0.3] = 255
    labels[0, 0] = 1
    return logits, labels


def target_of(labels: np.ndarray, classes: int, smoothing: float) -> np.ndarray:
    """(n, C): what each class's probability should be."""
    target: np.ndarray = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    return target


def softmax(logits: np.ndarray) -> np.ndarray:
    """Of (n, C); a single logit is that of label 1 of two."""
    if logits.shape[1] == 1:
        logits = np.concatenate((np.zeros_like(logits), logits), axis=1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return result


def flat(logits: torch.Tensor, labels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The labelled pixels: logits (n, C) and labels (n,)."""
    counted = labels != 255
    return logits.detach().movedim(1, -1)[counted].numpy(), labels[counted].numpy()


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 5]), st.floats(0, 0.9))
def test_label_smoothing_moves_the_target_towards_all_classes(seed: int, classes: int, smoothing: float) -> None:
    logits, labels = batch(seed, classes)
    values, known = flat(logits, labels)
    p, target = softmax(values), target_of(known, max(2, classes), smoothing)
    loss = semantic_cross_entropy(logits, labels, label_smoothing=smoothing)
    assert loss.item() == pytest.approx(-(target * np.log(p)).sum(axis=1).mean(), rel=1e-9)
    loss.backward()
    assert logits.grad is not None
    found = logits.grad.movedim(1, -1)
    expected = (p - target)[:, -classes:] / len(known)  # the softmax's well-known gradient
    np.testing.assert_allclose(found[labels != 255].numpy(), expected, atol=1e-12)
    assert not found[labels == 255].any()


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 5]), st.sampled_from([0.5, 1.0, 2.0, 3.5]))
def test_the_focal_loss_weighs_by_what_is_wrong(seed: int, classes: int, gamma: float) -> None:
    logits, labels = batch(seed, classes)
    values, known = flat(logits, labels)
    rows = np.arange(len(known))
    p = softmax(values)
    right = p[rows, known]
    loss = semantic_cross_entropy(logits, labels, focal_gamma=gamma)
    assert loss.item() == pytest.approx((-((1 - right) ** gamma) * np.log(right)).mean(), rel=1e-9)
    loss.backward()
    assert logits.grad is not None
    # d/dp of -(1 - p)^g log p, times dp/dlogit = p (onehot - softmax).
    slope = gamma * (1 - right) ** (gamma - 1) * np.log(right) - (1 - right) ** gamma / right
    expected = (slope * right)[:, None] * (np.eye(p.shape[1])[known] - p) / len(known)
    found = logits.grad.movedim(1, -1)
    np.testing.assert_allclose(found[labels != 255].numpy(), expected[:, -classes:], atol=1e-9)
    assert not found[labels == 255].any()


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_of_one_logit_and_of_independent_classes_it_is_torchvisions(gamma: float) -> None:
    logits, labels = batch(3, 1)
    counted = labels != 255
    theirs = sigmoid_focal_loss(logits[:, 0][counted], labels[counted].double(), alpha=-1, gamma=gamma)
    torch.testing.assert_close(semantic_cross_entropy(logits, labels, focal_gamma=gamma), theirs.mean())

    logits, labels = batch(4, 3)
    counted = labels != 255
    target = torch.eye(3, dtype=torch.float64)[labels[counted]]
    theirs = sigmoid_focal_loss(logits.movedim(1, -1)[counted], target, alpha=-1, gamma=gamma)
    torch.testing.assert_close(independent_cross_entropy(logits, labels, focal_gamma=gamma), theirs.mean())


def test_smoothed_independent_classes_are_each_half_unsure() -> None:
    logits, labels = batch(5, 3)
    values, known = flat(logits, labels)
    p = 1 / (1 + np.exp(-values))
    target = np.eye(3)[known] * 0.8 + 0.1
    expected = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    found = independent_cross_entropy(logits, labels, label_smoothing=0.2)
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_class_weights_and_averages_hold_for_the_focal_loss_too() -> None:
    logits, labels = batch(6, 3)
    values, known = flat(logits, labels)
    weights = np.array([0.5, 2.0, 3.0])
    right = softmax(values)[np.arange(len(known)), known]
    each = -((1 - right) ** 2) * np.log(right) * weights[known]
    given_weights = torch.tensor(weights)
    labelled = semantic_cross_entropy(logits, labels, focal_gamma=2.0, class_weights=given_weights)
    assert labelled.item() == pytest.approx(each.sum() / weights[known].sum(), rel=1e-9)
    whole = semantic_cross_entropy(logits, labels, focal_gamma=2.0, class_weights=given_weights, average="all")
    assert whole.item() == pytest.approx(each.sum() / labels.numel(), rel=1e-9)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("classes", [1, 3])
def test_certain_and_right_or_wrong_is_finite_with_its_gradient(gamma: float, classes: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        logits = torch.zeros(1, classes, 2, dtype=dtype)
        logits[0, 0] = torch.tensor([1000.0, -1000.0])
        logits.requires_grad_()
        labels = torch.tensor([[int(classes == 1), 0]])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = semantic_cross_entropy(logits, labels, focal_gamma=gamma)
        assert loss.dtype == torch.float32
        loss.backward()
        assert loss.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("classes", [1, 4])
def test_nothing_but_ignored_pixels_has_a_loss_of_zero_with_a_graph(classes: int) -> None:
    logits = torch.randn(2, classes, 5, requires_grad=True)
    labels = torch.full((2, 5), 255)
    total = torch.zeros(())
    for function in (semantic_cross_entropy, independent_cross_entropy):
        total = total + function(logits, labels, focal_gamma=2.0) + function(logits, labels, label_smoothing=0.1)
    total.backward()
    assert total.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
