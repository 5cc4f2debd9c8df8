"""Uncertainty of logits, binary and of many classes."""

from __future__ import annotations

import pytest
import torch

from pointrend.core import binary_uncertainty, multiclass_uncertainty, uncertainty


def test_binary_is_the_negated_distance_from_zero() -> None:
    logits = torch.tensor([[-2.0], [0.5], [0.0]])
    assert binary_uncertainty(logits, dim=1).tolist() == [-2.0, -0.5, 0.0]


def test_multiclass_is_the_negated_margin() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [1.0, 1.0, 0.0], [-4.0, -1.0, -9.0]])
    assert multiclass_uncertainty(logits, dim=1).tolist() == [-0.5, 0.0, -3.0]


@pytest.mark.parametrize("dim", [1, -3])
def test_the_class_dimension_goes(dim: int) -> None:
    assert uncertainty(torch.zeros(2, 1, 4, 5), dim=dim).shape == (2, 4, 5)
    assert uncertainty(torch.zeros(2, 7, 4, 5), dim=dim).shape == (2, 4, 5)


def test_the_logits_are_not_changed() -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    uncertainty(logits, dim=1)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_type_stays(dtype: torch.dtype) -> None:
    assert uncertainty(torch.tensor([[2.0, 1.0]], dtype=dtype), dim=1).dtype == dtype
    assert uncertainty(torch.tensor([[2.0]], dtype=dtype), dim=1).dtype == dtype


def test_the_number_of_logits_must_fit() -> None:
    with pytest.raises(ValueError, match="binary uncertainty needs 1 logit along dim 1, got 3"):
        binary_uncertainty(torch.zeros(2, 3), dim=1)
    with pytest.raises(ValueError, match="the margin needs at least 2 logits along dim 1, got 1"):
        multiclass_uncertainty(torch.zeros(2, 1), dim=1)


def test_gradient_of_the_margin() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.2, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: uncertainty(x, dim=1), logits)
