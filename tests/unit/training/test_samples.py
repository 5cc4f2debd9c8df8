"""Pictures of the same few images of val: photograph, truth and prediction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from people_files import write_coco, write_labels
from PIL import Image

from pointrend.data import SampleSet, find_samples
from pointrend.data.reading import Reading
from pointrend.results import SemanticResult
from pointrend.training.samples import EDGE, GAP, HEAD, beside_each_other, chosen, save_samples
from pointrend.viz import draw_truth


def labelled(tmp_path: Path, count: int = 2) -> SampleSet:
    root = write_labels(tmp_path / "data", lambda mask: mask.astype(np.uint8), count=count)
    return find_samples(root, task="semantic", layout="folder", split="val")


class Everything:
    """A model that sees rust everywhere."""

    def __init__(self, samples: SampleSet) -> None:
        self.classes = samples.classes
        self.spec = SimpleNamespace(input=SimpleNamespace(reading=Reading()), classes=samples.classes)

    def predictor(self) -> Any:
        def predict(pixels: np.ndarray) -> SemanticResult:
            return SemanticResult(classes=self.classes, image=pixels, labels=np.ones(pixels.shape[:2], np.uint8))

        return SimpleNamespace(predict=predict)


def test_truth_and_prediction_stand_beside_the_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = labelled(tmp_path)
    model: Any = Everything(samples)
    path = tmp_path / "samples" / "000003.png"
    save_samples(model, samples, path)
    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    height = EDGE * 48 // 64
    columns = [GAP + column * (EDGE + GAP) for column in range(3)]
    for row, sample in enumerate(samples.samples):
        top = HEAD + row * (height + GAP)
        photo, truth, prediction = (picture[top : top + height, left : left + EDGE] for left in columns)
        disc = np.asarray(Image.fromarray(sample.annotations.truth((48, 64))).resize((EDGE, height), 0)) == 1
        assert 0.02 < disc.mean() < 0.2
        assert np.ptp(photo, axis=2).max() == 0  # grey
        colored = np.ptp(truth, axis=2) > 20
        assert (colored == disc).mean() > 0.99
        assert (np.ptp(prediction, axis=2) > 20).mean() > 0.99
    assert picture.shape[0] > HEAD + 2 * (height + GAP) + 15  # a legend
    assert (picture[-1] == 255).all()


def test_the_same_images_evenly_spaced(tmp_path: Path) -> None:
    samples = labelled(tmp_path, count=8)
    assert [sample.image.stem for sample in chosen(samples)] == ["r0", "r2", "r5", "r7"]
    assert chosen(samples) == chosen(samples)
    assert len(chosen(replace(samples, samples=samples.samples[:3]))) == 3
    assert [sample.image.stem for sample in chosen(samples, 1)] == ["r0"]


def test_objects_of_the_truth_are_drawn_and_crowds_are_not(tmp_path: Path) -> None:
    samples = find_samples(write_coco(tmp_path / "data"), task="instance", layout="coco", split="val")
    sample = samples.samples[0]
    truth = sample.annotations.truth((48, 64))
    image = np.full((48, 64, 3), 90, np.uint8)
    changed = (np.asarray(draw_truth(image, truth, samples.classes))[:48, :64] != 90).any(axis=2)
    left, top, right, bottom = truth.boxes[0].round().astype(int)
    rows, columns = np.nonzero(changed)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, right, bottom)
    crowds = replace(truth, crowd=np.ones_like(truth.crowd))
    assert (np.asarray(draw_truth(image, crowds, samples.classes))[:48, :64] == 90).all()


def test_images_of_different_sizes_keep_to_their_columns() -> None:
    sizes = [[(40, 20), (40, 20)], [(10, 60), (10, 60)]]
    rows = [[Image.new("RGB", size, color) for size, color in zip(row, ("red", "blue"), strict=True)] for row in sizes]
    picture = np.asarray(beside_each_other(rows, ("a", "b")))
    assert picture.shape == (HEAD + 20 + 60 + 2 * GAP, 2 * 40 + 3 * GAP, 3)
    assert (picture[HEAD : HEAD + 20, GAP : GAP + 40] == (255, 0, 0)).all()
    left, top = GAP + 40 + GAP, HEAD + 20 + GAP
    assert (picture[top : top + 60, left : left + 10] == (0, 0, 255)).all()
    assert (picture[top : top + 60, left + 10 :] == 255).all()
