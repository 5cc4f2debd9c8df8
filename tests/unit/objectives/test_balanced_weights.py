"""Class weights: rare classes count more."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointrend.data import SampleSet, find_samples
from pointrend.objectives import balanced_weights


def split(root: Path, counts: list[list[int]]) -> SampleSet:
    """A split with one image a row of `counts`: how many pixels each class has; 255 fills up to 20 x 10 pixels."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for index, row in enumerate(counts):
        values = np.repeat([*range(len(row)), 255], [*row, 200 - sum(row)]).astype(np.uint8)
        Image.fromarray(values.reshape(10, 20)).save(root / "labels" / f"{index:03}.png")
        Image.new("RGB", (20, 10)).save(root / "images" / f"{index:03}.png")
    (root / "classes.json").write_text(json.dumps([f"class {index}" for index in range(len(counts[0]))]))
    return find_samples(root, task="semantic", layout="folder")


@pytest.mark.parametrize(("power", "expected"), [(1.0, (0.5, 1.0, 3.0)), (0.5, (0.5**0.5, 1.0, 3.0**0.5))])
def test_values_over_all_images(tmp_path: Path, power: float, expected: tuple[float, ...]) -> None:
    samples = split(tmp_path / "data", [[40, 20, 10], [20, 10, 0]])  # 60, 30 and 10 pixels; ignored ones do not count
    assert balanced_weights(samples, power).tolist() == pytest.approx(expected)


def test_no_class_counts_more_than_five_times_or_less_than_a_fifth(tmp_path: Path) -> None:
    samples = split(tmp_path / "data", [[180, 10, 1]])
    assert balanced_weights(samples, 1.0).tolist() == pytest.approx((0.2, 1.0, 5.0))
    assert balanced_weights(samples, 1.0, maximum=8.0).tolist() == pytest.approx((1 / 8, 1.0, 8.0))


def test_a_class_that_does_not_occur_has_a_finite_weight(tmp_path: Path) -> None:
    samples = split(tmp_path / "data", [[100, 50, 0]])
    assert balanced_weights(samples, 1.0).tolist() == pytest.approx((0.5, 1.0, 5.0))


def test_of_many_images_some_are_read_evenly(tmp_path: Path) -> None:
    samples = split(tmp_path / "data", [[100, 50, 25], [0, 0, 100], [100, 50, 25], [0, 0, 100]])
    assert balanced_weights(samples, 1.0, images=2).tolist() == pytest.approx((0.5, 1.0, 2.0))
