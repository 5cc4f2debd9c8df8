"""From logits to labels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pointrend.core import labels_of, resized_labels


def test_the_first_of_the_best_classes_wins() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 1.0, 4.0]])
    assert labels_of(logits, dim=1).tolist() == [1, 0, 2]


def test_one_logit_is_one_above_zero() -> None:
    assert labels_of(torch.tensor([[-1.0], [0.0], [1e-6]]), dim=1).tolist() == [0, 0, 1]


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_labels_are_integers_of_the_size_asked_for(classes: int) -> None:
    labels = resized_labels(torch.randn(2, classes, 5, 3), (13, 8))
    assert labels.shape == (2, 13, 8)
    assert labels.dtype == torch.int64


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_resized_in_float32(classes: int, dtype: torch.dtype) -> None:
    logits = torch.randn(1, classes, 6, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(resized_labels(logits, (31, 29)), resized_labels(logits.float(), (31, 29)))


def test_the_same_size_changes_nothing() -> None:
    logits = torch.randn(1, 5, 6, 7)
    assert torch.equal(resized_labels(logits, (6, 7)), logits.argmax(1))


def test_a_wider_map_upsampled_bilinearly_not_by_nearest() -> None:
    logits = torch.tensor([-1.0, 3.0]).view(1, 1, 1, 2)
    labels = resized_labels(logits, (1, 8))
    assert labels.tolist() == [[[0, 0, 0, 1, 1, 1, 1, 1]]]
    assert F.interpolate(logits, size=(1, 8)).gt(0).long().squeeze(1).tolist() == [[[0, 0, 0, 0, 1, 1, 1, 1]]]
