"""Losses and accuracy at points and on dense maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pointrend.core import point_accuracy, point_cross_entropy, semantic_cross_entropy


def test_points_of_known_loss() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [1.0, 1.0, 1.0]]]))
    loss = point_cross_entropy(logits, torch.tensor([[0, 2, 255]]))
    torch.testing.assert_close(loss, -torch.log(torch.tensor([0.5, 0.8])).mean())


def test_one_logit_is_binary_cross_entropy() -> None:
    logits = torch.tensor([[[0.0], [2.0], [9.0]]])
    loss = point_cross_entropy(logits, torch.tensor([[1, 0, 255]]))
    expected = F.binary_cross_entropy_with_logits(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 4.0, 0.5])])
def test_an_average_over_all_counts_ignored_ones_with_a_loss_of_zero(weights: torch.Tensor | None) -> None:
    """mmsegmentation's mean without `avg_non_ignore`: (weighted) losses by the number of all points."""
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5]]]))
    labels = torch.tensor([[0, 2, 255, 1]])
    each = -torch.log(torch.tensor([0.5, 0.8, 0.3]))
    counted = each if weights is None else each * weights[torch.tensor([0, 2, 1])]
    loss = point_cross_entropy(logits, labels, class_weights=weights, average="all")
    torch.testing.assert_close(loss, counted.sum() / 4)
    mean = point_cross_entropy(logits, labels, class_weights=weights, average="labelled")
    torch.testing.assert_close(mean, counted.sum() / (3 if weights is None else 5.5))
    torch.testing.assert_close(point_cross_entropy(logits, labels, class_weights=weights), mean)


def test_an_average_over_all_of_one_logit_and_of_nothing() -> None:
    logits = torch.tensor([[[0.0], [2.0], [9.0]]])
    loss = point_cross_entropy(logits, torch.tensor([[1, 255, 255]]), average="all")
    torch.testing.assert_close(loss, torch.tensor(2.0).log() / 3)
    assert point_cross_entropy(torch.zeros(1, 0, 3), torch.zeros(1, 0, dtype=torch.int64), average="all").item() == 0
    with pytest.raises(ValueError, match="average must be 'labelled' or 'all', got 'valid'"):
        point_cross_entropy(logits, torch.tensor([[1, 0, 0]]), average="valid")  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_no_points_and_only_ignored_points_have_a_loss_of_zero(classes: int) -> None:
    for logits, labels in [
        (torch.randn(2, 0, classes), torch.zeros(2, 0, dtype=torch.int64)),
        (torch.randn(2, 6, classes), torch.full((2, 6), 255)),
    ]:
        logits.requires_grad_()
        loss = point_cross_entropy(logits, labels)
        assert loss.item() == 0
        loss.backward()
        assert logits.grad is not None
        assert logits.grad.count_nonzero() == 0


@pytest.mark.parametrize("classes", [1, 3])
def test_what_is_ignored_does_not_matter_even_where_it_is_infinite(classes: int) -> None:
    logits = torch.zeros(1, classes, 4)
    labels = torch.tensor([[0, 1, 255, 1]])
    expected = semantic_cross_entropy(logits, labels)
    logits[..., 2] = 1e30
    assert torch.equal(semantic_cross_entropy(logits, labels), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_any_integer_type_of_labels(dtype: torch.dtype) -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(32).view(2, 4, 4) % 3
    assert torch.equal(semantic_cross_entropy(logits, labels.to(dtype)), F.cross_entropy(logits, labels))


@pytest.mark.parametrize("classes", [1, 3])
def test_half_precision_and_autocast_are_computed_in_float32(classes: int) -> None:
    logits = torch.randn(2, classes, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    labels = torch.arange(80).view(2, 40) % 2
    expected = semantic_cross_entropy(logits.float(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        loss = semantic_cross_entropy(logits, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients(classes: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, classes, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.randint(max(2, classes), (2, 5), generator=generator)
    labels[0, 1] = 255
    weights = torch.rand(max(2, classes), generator=generator) if weighted else None
    assert torch.autograd.gradcheck(lambda x: point_cross_entropy(x, labels, class_weights=weights), logits)


def test_weights_of_zero_leave_a_class_out() -> None:
    logits = torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 1, 0, 1, 1, 0]])
    weights = torch.tensor([0.0, 2.0])
    loss = semantic_cross_entropy(logits, labels, class_weights=weights)
    only_ones = semantic_cross_entropy(logits, torch.where(labels == 1, 1, 255))
    torch.testing.assert_close(loss, only_ones)
    assert semantic_cross_entropy(logits, torch.zeros_like(labels), class_weights=weights).item() == 0


@pytest.mark.parametrize(
    ("logits", "labels"), [((2, 3, 4, 4), (2, 4, 5)), ((2, 3, 4, 4), (1, 4, 4)), ((2, 3, 4), (2, 3, 4))]
)
def test_shapes_that_disagree_are_refused(logits: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"logits \(N, C, ...\) and labels \(N, ...\) disagree"):
        semantic_cross_entropy(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))


@pytest.mark.parametrize(("classes", "highest"), [(1, 1), (2, 1), (5, 4)])
@pytest.mark.parametrize("wrong", [-1, 7])
def test_labels_out_of_range_are_refused(classes: int, highest: int, wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"labels must be 0 to {highest}, or 255 \(ignored\), got also {wrong}"):
        semantic_cross_entropy(torch.zeros(1, classes, 2), torch.tensor([[0, wrong]]))


def test_accuracy_leaves_ignored_points_out() -> None:
    logits = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 9.0]]])
    assert point_accuracy(logits, torch.tensor([[0, 1, 1, 255]])).item() == pytest.approx(2 / 3)
    binary = torch.tensor([[[2.0], [-1.0], [0.0], [5.0]]])
    assert point_accuracy(binary, torch.tensor([[1, 0, 0, 0]])).item() == pytest.approx(3 / 4)
    assert point_accuracy(logits, torch.full((1, 4), 255)).isnan()
