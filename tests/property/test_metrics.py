from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from pointrend.metrics.base import MetricSettings
from pointrend.metrics.boundary import boundary_band
from pointrend.metrics.semantic import SemanticMetric

CLASSES = 4
SETTINGS = MetricSettings(("0", "1", "2", "3"), boundary_ratio=0.08)
SIZES = st.tuples(st.integers(1, 14), st.integers(1, 14))


@st.composite
def label_maps(draw: st.DrawFn, *, count: int = 1, size: tuple[int, int] | None = None) -> list[Tensor]:
    """Label maps of one size (H, W), drawn small and enlarged so that regions have an inside."""
    height, width = size or draw(SIZES)
    cell = draw(st.integers(1, 5))
    grid = (-(-height // cell), -(-width // cell))
    maps = []
    for _ in range(count):
        small = draw(hnp.arrays(np.int64, grid, elements=st.integers(0, CLASSES - 1)))
        maps.append(torch.from_numpy(small.repeat(cell, 0).repeat(cell, 1)[:height, :width].copy()))
    return maps


def eroded(mask: Tensor) -> Tensor:
    """One erosion by a 3x3 square, nothing outside of the image."""
    height, width = mask.shape
    result = torch.zeros_like(mask)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            result[y, x] = mask[y - 1 : y + 2, x - 1 : x + 2].all()
    return result


def scores(*pairs: tuple[Tensor, Tensor]) -> dict[str, float]:
    metric = SemanticMetric(SETTINGS)
    for prediction, target in pairs:
        metric.update(prediction, target)
    return metric.compute()


def same(first: float, second: float) -> bool:
    return math.isclose(first, second, abs_tol=1e-9) or (math.isnan(first) and math.isnan(second))


@settings(max_examples=60, deadline=None)
@given(label_maps(), st.integers(1, 4))
def test_band_is_what_repeated_erosion_takes_away(maps: list[Tensor], width: int) -> None:
    (labels,) = maps
    expected = torch.zeros(labels.shape, dtype=torch.bool)
    for label in labels.unique():
        inside = mask = labels == label
        for _ in range(width):
            inside = eroded(inside)
        expected |= mask & ~inside
    assert torch.equal(boundary_band(labels, width), expected)


@settings(max_examples=60, deadline=None)
@given(label_maps(), st.integers(1, 4))
def test_band_turns_with_the_image(maps: list[Tensor], width: int) -> None:
    (labels,) = maps
    band = boundary_band(labels, width)
    assert torch.equal(boundary_band(labels.T, width), band.T)
    assert torch.equal(boundary_band(labels.flip(0), width), band.flip(0))
    assert torch.equal(boundary_band(labels.flip(1), width), band.flip(1))


@settings(max_examples=60, deadline=None)
@given(label_maps(), st.integers(1, 4))
def test_bands_grow_and_do_not_care_about_names(maps: list[Tensor], width: int) -> None:
    (labels,) = maps
    band = boundary_band(labels, width)
    assert not (band & ~boundary_band(labels, width + 1)).any()
    assert torch.equal(boundary_band(torch.tensor([7, -3, 0, 255])[labels], width), band)


@settings(max_examples=60, deadline=None)
@given(label_maps(count=3))
def test_right_outside_of_ignored_pixels_is_perfect(maps: list[Tensor]) -> None:
    target, anything, mask = maps
    ignored = mask == 0
    result = scores((torch.where(ignored, anything, target), torch.where(ignored, 255, target)))
    for name in ("miou", "mean_accuracy", "pixel_accuracy", "boundary_iou", "boundary_f"):
        value = result[name]
        assert math.isnan(value) if ignored.all() else value == 100, name


@settings(max_examples=60, deadline=None)
@given(label_maps(count=3))
def test_swapping_prediction_and_target_keeps_symmetric_scores(maps: list[Tensor]) -> None:
    prediction, target, mask = maps
    prediction, target = (labels.masked_fill(mask == 0, 255) for labels in (prediction, target))
    one, other = scores((prediction, target)), scores((target, prediction))
    for name in ("miou", "pixel_accuracy", "boundary_iou", "boundary_f"):
        assert same(one[name], other[name]), name


@settings(max_examples=60, deadline=None)
@given(label_maps(count=3))
def test_a_class_occurs_for_all_scores_or_for_none(maps: list[Tensor]) -> None:
    """A region that is counted has a counted boundary, so the means run over the same classes."""
    prediction, target, mask = maps
    result = scores((prediction, target.masked_fill(mask == 0, 255)))
    for name in SETTINGS.class_names:
        iou, boundary_iou, boundary_f = (result[f"{kind}/{name}"] for kind in ("iou", "boundary_iou", "boundary_f"))
        assert math.isnan(iou) == math.isnan(boundary_iou) == math.isnan(boundary_f)
        assert math.isnan(iou) or all(0 <= v <= 100 for v in (boundary_iou, boundary_f))


@settings(max_examples=40, deadline=None)
@given(label_maps(count=2), label_maps(count=2), st.booleans())
def test_order_and_split_do_not_matter(first: list[Tensor], second: list[Tensor], swap: bool) -> None:
    pairs = [(first[0], first[1]), (second[0], second[1])]
    expected = scores(*pairs)
    metrics = [SemanticMetric(SETTINGS) for _ in pairs]
    for single, (prediction, target) in zip(metrics, pairs[::-1] if swap else pairs, strict=True):
        single.update(prediction, target)
    metrics[0].merge_state(metrics[1])
    assert repr(metrics[0].compute()) == repr(expected)  # repr because nan is not itself
