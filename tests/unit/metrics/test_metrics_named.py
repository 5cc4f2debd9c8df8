"""Metrics are found in their folder, and all have one shape: settings in, images one by one, named numbers out."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from coco_scenes import encode, square

from pointrend.errors import PointRendError
from pointrend.metrics import METRICS, metrics_named
from pointrend.metrics.base import MetricSettings, SplitMetric
from pointrend.metrics.cityscapes import CityscapesMetric
from pointrend.metrics.coco import CocoMetric, limits
from pointrend.metrics.f1 import F1Metric
from pointrend.metrics.instances import ImageInstances
from pointrend.metrics.lvis import LvisMetric
from pointrend.metrics.multi_label import MultiLabelMetric
from pointrend.metrics.semantic import SemanticMetric

SETTINGS = MetricSettings(("person", "car"), frequencies=("c", "f"))
SIZE = (120, 140)
LABEL_MAPS = ("semantic", "multi-label")
"""Metrics that take label maps."""


class Images(SplitMetric):
    """How many images there were, as a new file in the folder would count them."""

    name = "images"
    headline: ClassVar = {"images": "images"}
    images: torch.Tensor

    def __init__(self, settings: MetricSettings) -> None:
        super().__init__(settings)
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Any, truth: Any) -> None:
        self.images = self.images + 1

    def compute(self) -> dict[str, float]:
        return {"images": float(self.images)}


def image(name: str, number: int) -> tuple[Any, Any]:
    """A prediction and the ground truth of it; images of different numbers differ."""
    mask = square(10, 10, 40 + 5 * number, 40)
    moved = square(10, 10, 40, 40)
    if name in LABEL_MAPS:
        found, true = (torch.from_numpy(labels.astype(np.int64)) for labels in (moved, mask))
        return 1 << found if name == "multi-label" else found, true
    ids = np.where(mask, 26001, 7).astype(np.int32)
    fields: dict[str, Any] = {"image_id": number, "size": SIZE, "boxes": np.array([[10.0, 10, 50, 50]])}
    fields["classes"] = np.array([1])
    found = ImageInstances(**fields, masks=[encode(moved)], scores=np.array([0.5 + number / 10]))
    return found, ImageInstances(**fields, masks=[encode(mask)], instance_ids=ids)


def test_the_metrics_of_the_folder_are_found() -> None:
    assert {
        "cityscapes": CityscapesMetric,
        "coco": CocoMetric,
        "f1": F1Metric,
        "lvis": LvisMetric,
        "multi-label": MultiLabelMetric,
        "semantic": SemanticMetric,
    } == METRICS


def test_a_new_metric_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "images", Images)
    semantic, images = metrics_named(["semantic", "images"], SETTINGS)
    assert isinstance(semantic, SemanticMetric)
    for metric in (semantic, images):
        metric.update(*image("semantic", 0))
    assert images.compute() == {"images": 1.0}


def test_an_unknown_name_is_refused_with_the_nearest_first() -> None:
    with pytest.raises(PointRendError, match=r"^unknown metric 'lviss'; choose one of lvis, ") as caught:
        metrics_named(["coco", "lviss"], SETTINGS)
    assert "\n" not in str(caught.value)
    assert all(name in str(caught.value) for name in METRICS)


def test_settings_are_checked() -> None:
    with pytest.raises(PointRendError, match="max_detections must be at least 1, got 0"):
        MetricSettings(("a",), max_detections=0)
    for ratio in (0.0, 1.0):
        with pytest.raises(PointRendError, match="boundary_ratio must be between 0 and 1"):
            MetricSettings(("a",), boundary_ratio=ratio)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_boundary_ratio_is_the_metrics_own_unless_it_is_set(name: str) -> None:
    (own,) = metrics_named([name], SETTINGS)
    assert own.boundary_ratio == (0.005 if name in LABEL_MAPS else 0.02)
    (other,) = metrics_named([name], MetricSettings(SETTINGS.class_names, boundary_ratio=0.1))
    assert other.boundary_ratio == 0.1


@pytest.mark.parametrize("name", sorted(METRICS))
def test_numbers_are_named_and_do_not_depend_on_the_order_of_images(name: str) -> None:
    forwards, backwards = (metrics_named([name], SETTINGS)[0] for _ in range(2))
    images = [image(name, number) for number in range(4)]
    for one, other in zip(images, images[::-1], strict=True):
        forwards.update(*one)
        backwards.update(*other)
    numbers = forwards.compute()
    assert all(isinstance(value, float) for value in numbers.values())
    assert repr(backwards.compute()) == repr(numbers)  # repr because nan is not itself
    assert set(forwards.headline) <= set(numbers)
    assert {f"{kind}/{label}" for kind in forwards.per_class for label in SETTINGS.class_names} <= set(numbers)
    assert {number.partition("/")[2] for number in numbers} <= {"", *SETTINGS.class_names}
    assert 0 < numbers[next(iter(forwards.headline))] < 100


@pytest.mark.parametrize("name", sorted(METRICS))
def test_reset_starts_again(name: str) -> None:
    metric, fresh = (metrics_named([name], SETTINGS)[0] for _ in range(2))
    metric.update(*image(name, 3))
    before = metric.compute()
    metric.reset()
    metric.update(*image(name, 1))
    fresh.update(*image(name, 1))
    assert repr(metric.compute()) == repr(fresh.compute()) != repr(before)
    metric.reset()
    metric.update(*image(name, 3))  # the same image again
    assert repr(metric.compute()) == repr(before)


def test_detection_limits_are_cocos() -> None:
    (metric,) = metrics_named(["coco"], MetricSettings(("a",), max_detections=400))
    assert isinstance(metric, CocoMetric)
    assert metric.detection_limits == limits(400) == (1, 100, 400)
