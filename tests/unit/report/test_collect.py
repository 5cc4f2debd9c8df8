"""Which images and windows a report shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pointrend.data import InstanceTruth, Sample
from pointrend.data.classes import ClassInfo
from pointrend.data.samples import Annotations
from pointrend.report import Collector
from pointrend.report.collect import SHOWN, confusion_of, fullest_window
from pointrend.results import SemanticResult
from pointrend.scoring import COVERED_PIXELS, LABELS

CLASSES = (ClassInfo("background", (0, 0, 0)), ClassInfo("thing", (200, 0, 0)))
TRUTH = np.zeros((100, 120), np.uint8)
TRUTH[:, 60:] = 1


class Known(Annotations):
    """The truth of the tests."""

    def truth(self, size: tuple[int, int]) -> Any:
        return TRUTH

    def read(self, size: tuple[int, int]) -> Any:
        raise NotImplementedError

    def inspect(self, size: tuple[int, int]) -> Any:
        raise NotImplementedError


def result(labels: np.ndarray) -> SemanticResult:
    return SemanticResult(labels=labels, classes=CLASSES, image=np.repeat(labels[..., None] * 90, 3, axis=2))


def wrong(columns: int, *, top: int = 0, bottom: int = 100) -> np.ndarray:
    """The truth with its boundary moved by some columns in some rows."""
    labels = TRUTH.copy()
    labels[top:bottom, 60 : 60 + columns] = 0
    return labels


def collected(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Any:
    collector = Collector(LABELS, CLASSES)
    for index, (coarse, rendered) in enumerate(pairs):
        sample = Sample(image=Path(f"{index}.png"), annotations=Known(), image_id=index)
        collector.observe(sample, {"coarse": result(coarse), "pointrend": result(rendered)})
    return collector.findings()


def test_images_are_ordered_by_what_they_gain_and_lose() -> None:
    found = collected([(wrong(a), wrong(b)) for a, b in ((4, 4), (9, 1), (3, 2), (0, 5), (2, 3))])
    assert [change.name for change in found.gains] == ["1.png", "2.png"]
    assert [change.name for change in found.losses] == ["3.png", "4.png"]
    assert (found.images, found.better, found.worse) == (5, 2, 2)
    assert found.gains[0].gain > found.gains[1].gain > 0 > found.losses[1].gain > found.losses[0].gain
    # Of 100 rows, 9 columns were wrong and 1 is: 60 columns of background, 60 of the thing.
    before, after = (100 * (60 / (60 + n) + (60 - n) / 60) / 2 for n in (9, 1))
    assert found.gains[0].gain == pytest.approx(after - before)


def test_at_most_so_many_are_kept_and_they_are_the_largest() -> None:
    found = collected([(wrong(n), TRUTH) for n in range(1, SHOWN + 6)] + [(TRUTH, wrong(n)) for n in range(1, 40)])
    assert [change.name for change in found.gains] == [f"{n - 1}.png" for n in range(SHOWN + 5, 5, -1)]
    assert len(found.losses) == SHOWN
    assert found.losses[0].name == "55.png"


def test_the_window_shows_what_became_right() -> None:
    found = collected([(wrong(5, top=70, bottom=90), TRUTH)])
    (change,) = found.gains
    left, top, right, bottom = change.window
    assert (right - left, bottom - top) == (48, 48)
    assert left <= 60
    assert right >= 65
    assert top <= 70
    assert bottom >= 90
    assert np.array_equal(change.truth, TRUTH[top:bottom, left:right])
    assert np.array_equal(change.coarse, wrong(5, top=70, bottom=90)[top:bottom, left:right])
    assert change.photo.shape == (48, 48, 3)


def test_a_boundary_is_shown_rather_than_a_larger_patch() -> None:
    coarse = wrong(3, top=70, bottom=90)
    coarse[:40, 90:118] = 0
    (change,) = collected([(coarse, TRUTH)]).gains
    left, top, right, bottom = change.window
    assert left <= 60 < 63 <= right
    assert top <= 70 < 90 <= bottom


def test_the_confusion_is_of_the_rendered_labels() -> None:
    found = collected([(wrong(30), wrong(10))])
    assert found.confusion.tolist() == [[6000, 0], [1000, 5000]]
    assert list(found.trimap) == ["coarse", "pointrend"]
    assert found.trimap["pointrend"].miou()[0] > found.trimap["coarse"].miou()[0] - 1e-9


def test_ignored_pixels_are_left_out() -> None:
    truth = np.array([[0, 255], [1, 1]], np.uint8)
    assert confusion_of(np.array([[0, 1], [1, 0]], np.uint8), truth, 2).tolist() == [[1, 0], [1, 1]]


def test_the_fullest_window_lies_in_the_image() -> None:
    marked = np.zeros((200, 300), bool)
    marked[190:, 290:] = True
    assert fullest_window(marked) == (252, 152, 300, 200)
    assert fullest_window(np.zeros((20, 300), bool))[3] == 20


def test_instances_are_compared_by_the_pixels_they_cover() -> None:
    def rle(left: int) -> Any:
        mask = np.zeros((4, 6), np.uint8)
        mask[:, left : left + 2] = 1
        return coco_mask.encode(np.asfortranarray(mask))

    truth = InstanceTruth(
        boxes=np.zeros((2, 4)),
        classes=np.zeros(2, np.int64),
        masks=[rle(0), rle(4)],
        crowd=np.array([False, True]),
    )
    assert COVERED_PIXELS.of_truth(truth, (4, 6))[0].tolist() == [1, 1, 0, 0, 255, 255]
    assert [info.name for info in COVERED_PIXELS.classes(CLASSES)] == ["background", "object"]
