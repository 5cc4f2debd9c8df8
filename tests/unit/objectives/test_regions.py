"""Dice and Lovász against their definitions, values and gradients."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pointrend.objectives.regions import dice_loss, lovasz_loss

KINDS = ("exclusive", "one logit", "independent")


def batch(seed: int, kind: str) -> tuple[Tensor, Tensor]:
    """Logits (2, C, 3, 4), float32, and labels (2, 3, 4), some of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    classes = 1 if kind == "one logit" else 4
    logits = 2 * torch.randn(2, classes, 3, 4, generator=generator)
    labels = torch.randint(0, 2 if kind == "one logit" else 3, (2, 3, 4), generator=generator)  # class 3 never occurs
    labels[torch.rand(2, 3, 4, generator=generator) < 0.3] = 255
    labels[0, 0, 0] = 1
    return logits.contiguous(memory_format=torch.channels_last).requires_grad_(), labels  # as trainings have them


def pixels(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The labelled pixels as (n, C) float64 and (n,)."""
    counted = labels != 255
    return logits.movedim(1, -1)[counted].double(), labels[counted]


def dice(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    values, known = pixels(logits, labels)
    p = values.softmax(1) if kind == "exclusive" else values.sigmoid()
    terms = []
    for index in range(p.shape[1]):
        t = (known == (1 if kind == "one logit" else index)).double()
        overlap = 2 * (p[:, index] * t).sum() / (p[:, index].sum() + t.sum())
        terms.append((1 - overlap) * bool(t.any()))
    return torch.stack(terms).mean()


def jaccard_loss(wrong: Tensor, truth: Tensor) -> float:
    """1 - IoU of a prediction that is wrong at a set of pixels, (n,) bool both: |wrong| / |truth or wrong|."""
    return float(wrong.sum()) / float((truth | wrong).sum()) if wrong.any() else 0.0


def extension(errors: Tensor, truth: Tensor) -> Tensor:
    """The Lovász extension of the Jaccard loss: the largest errors join the set of wrong pixels one by one."""
    total = errors.new_zeros(())
    wrong = torch.zeros_like(truth)
    before = 0.0
    for index in errors.argsort(descending=True).tolist():
        wrong[index] = True
        after = jaccard_loss(wrong, truth)
        total = total + errors[index] * (after - before)
        before = after
    return total


def lovasz(logits: Tensor, labels: Tensor, kind: str) -> Tensor:
    values, known = pixels(logits, labels)
    if kind == "exclusive":
        p = values.softmax(1)
        truths = {index: known == index for index in range(p.shape[1])}
        return torch.stack(
            [extension((t.double() - p[:, index]).abs(), t) for index, t in truths.items() if t.any()]
        ).mean()
    terms = []
    for index in range(values.shape[1]):
        t = known == (1 if kind == "one logit" else index)
        margins = 1 - values[:, index] * torch.where(t, 1.0, -1.0)
        # Errors below 0 do not count, and do not change the order of those above.
        terms.append(extension(margins.clamp(min=0), t))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("ours", "formula"), [(dice_loss, dice), (lovasz_loss, lovasz)])
@given(seed=st.integers(0, 10**6))
def test_values_and_gradients_are_those_of_the_definition(
    ours: Callable[..., Tensor], formula: Callable[..., Tensor], kind: str, seed: int
) -> None:
    logits, labels = batch(seed, kind)
    expected = formula(logits, labels, kind)
    (slope,) = torch.autograd.grad(expected, logits)
    found = ours(logits, labels, independent=kind == "independent")
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    (gradient,) = torch.autograd.grad(found, logits)
    torch.testing.assert_close(gradient, slope, atol=1e-5, rtol=1e-4)
    assert not gradient.movedim(1, -1)[labels == 255].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ours", [dice_loss, lovasz_loss])
def test_nothing_but_ignored_pixels_has_a_loss_of_zero_with_a_graph(ours: Callable[..., Tensor], kind: str) -> None:
    logits, labels = batch(1, kind)
    loss = ours(logits, torch.full_like(labels, 255), independent=kind == "independent")
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ours", [dice_loss, lovasz_loss])
def test_autocast_changes_nothing(ours: Callable[..., Tensor], kind: str) -> None:
    logits, labels = batch(2, kind)
    expected = ours(logits, labels, independent=kind == "independent")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ours(logits, labels, independent=kind == "independent")
    assert found.dtype == torch.float32
    assert found.item() == expected.item()


def test_without_the_library_the_install_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(ImportError, match=r"loss\.dice and loss\.lovasz need .*: pip install 'pointrend\[train\]'"):
        dice_loss(*batch(1, "exclusive"))
