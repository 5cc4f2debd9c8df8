"""Scores of classes that do not exclude each other, by hand and against those of label maps."""

from __future__ import annotations

import math

import pytest
import torch

from pointrend.metrics.base import MetricSettings
from pointrend.metrics.multi_label import MultiLabelMetric
from pointrend.metrics.semantic import SemanticMetric

SETTINGS = MetricSettings(("a", "b", "c"))


def test_iou_is_of_each_class_against_all_else() -> None:
    metric = MultiLabelMetric(SETTINGS)
    # Classes: a and b; b; none; and a, where the ground truth is not known.
    metric.update(torch.tensor([[0b011, 0b010, 0b000, 0b001]]), torch.tensor([[0, 1, 0, 255]]))
    numbers = metric.compute()
    assert numbers["iou/a"] == pytest.approx(50)  # 1 of 2
    assert numbers["iou/b"] == pytest.approx(50)  # 1 right, 1 too many
    assert math.isnan(numbers["iou/c"])
    assert numbers["miou"] == pytest.approx(50)


def test_where_each_pixel_has_one_class_it_is_the_metric_of_label_maps() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = MultiLabelMetric(SETTINGS), SemanticMetric(SETTINGS)
    for _ in range(3):
        coarse = torch.randint(0, 3, (2, 5, 7), generator=generator)
        predicted, true = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
        ours.update(1 << predicted, true)
        theirs.update(predicted, true)
    expected = theirs.compute()
    assert ours.compute() == pytest.approx({name: expected[name] for name in ours.compute()})


def test_sizes_that_differ_are_said() -> None:
    with pytest.raises(ValueError, match=r"must have the same size, got \(2, 2\) and \(2, 3\)"):
        MultiLabelMetric(SETTINGS).update(torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.int64))
