"""Which samples of a data set are looked at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from data_files import write_image
from PIL import Image

from pointrend.data.overview import chosen_samples, overview


def write_set(root: Path) -> Path:
    """40 images: all of class 1, the last ten also of class 2, number 7 also of class 3."""
    (root / "labels").mkdir(parents=True)
    for index in range(40):
        write_image(root / "images" / f"{index:02}.png")
        labels = np.ones((6, 8), np.uint8)
        labels[0] = 2 if index >= 30 else 3 if index == 7 else 1
        Image.fromarray(labels).save(root / "labels" / f"{index:02}.png")
    (root / "classes.json").write_text(json.dumps([{"name": "void", "ignore": True}, "a", "b", "c"]))
    return root


def test_samples_are_spread_over_classes_and_files(tmp_path: Path) -> None:
    found = overview(write_set(tmp_path)).splits
    numbers = [int(sample.image.stem) for _, sample in chosen_samples(found, 6)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 6
    assert 7 in numbers
    # The rare class comes as often as it needs to, and then the classes that were shown least.
    assert sum(number >= 30 for number in numbers) >= 4
    gaps = np.diff([number for number in numbers if number >= 30])
    assert gaps.max() > 1, "not one file after the other"
    assert [int(sample.image.stem) for _, sample in chosen_samples(found, 6)] == numbers


def test_at_most_what_is_there(tmp_path: Path) -> None:
    found = overview(write_set(tmp_path)).splits
    assert len(chosen_samples(found, 100)) == 40
    assert chosen_samples((), 12) == []


def test_each_class_comes_as_often_as_the_others(tmp_path: Path) -> None:
    root = write_set(tmp_path)
    for index in range(40):  # 25, ten and five images of one class each
        label = 1 if index < 25 else 2 if index < 35 else 3
        Image.fromarray(np.full((6, 8), label, np.uint8)).save(root / "labels" / f"{index:02}.png")
    numbers = [int(sample.image.stem) for _, sample in chosen_samples(overview(root).splits, 6)]
    assert np.histogram(numbers, [0, 25, 35, 40])[0].tolist() == [2, 2, 2]
