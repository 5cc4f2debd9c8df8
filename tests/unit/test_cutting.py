"""Cut-outs of what models found: which pixels, without specks, and with a refined edge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pointrend.cutting import Cutting, cut_out, cutting
from pointrend.data.classes import ClassInfo
from pointrend.errors import PointRendError
from pointrend.results import InstanceResult, SemanticResult
from pointrend.results.multi_label import MultiLabelResult
from pointrend.results.specks import without_specks

CLASSES = tuple(ClassInfo(name, (index, index, index)) for index, name in enumerate(("background", "Cat", "dog")))
LABELS = np.array([[0, 1, 1, 0], [0, 1, 2, 2], [0, 0, 2, 2]], np.uint8)
IMAGE = np.full((3, 4, 3), 90, np.uint8)


def labelled(labels: np.ndarray = LABELS) -> SemanticResult:
    return SemanticResult(classes=CLASSES, image=np.full((*labels.shape, 3), 90, np.uint8), labels=labels)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("all", LABELS > 0),
        (["all"], LABELS > 0),
        (["cat"], LABELS == 1),
        (["DOG", "Cat"], LABELS > 0),
        ("dog", LABELS == 2),
    ],
)
def test_classes_are_named_in_any_case_and_all_is_not_the_background(names: Any, expected: np.ndarray) -> None:
    cut = cutting(names, CLASSES, model=None)
    assert np.array_equal(cut.mask(labelled()), expected)
    alpha = np.asarray(cut.image(labelled()))[..., 3]
    assert np.array_equal(alpha, np.where(expected, 255, 0))


def test_objects_are_joined_and_their_first_class_is_no_background() -> None:
    planes = np.zeros((3, 3, 4), bool)
    planes[0, 0, 0], planes[1, 1, 1:3], planes[2, 2, 3] = True, True, True
    result = InstanceResult(
        classes=CLASSES, image=IMAGE, boxes=np.zeros((3, 4), np.float32), scores=np.ones(3, np.float32),
        labels=np.array([0, 1, 0]), masks=planes,
    )  # fmt: skip
    assert np.array_equal(cutting("all", CLASSES, background=False, model=None).mask(result), planes.any(0))
    assert np.array_equal(
        cutting("background", CLASSES, background=False, model=None).mask(result), planes[0] | planes[2]
    )


def test_a_label_map_without_a_background_is_cut_out_whole() -> None:
    classes = (ClassInfo("sky", (1, 1, 1)), *CLASSES[1:])
    assert cutting("all", classes, model=None).classes == (0, 1, 2)
    assert cutting("all", CLASSES, model=None).classes == (1, 2)


def test_pixels_of_several_classes_are_of_each() -> None:
    labels = np.array([[0b000, 0b010, 0b110], [0b100, 0b001, 0b011]], np.int32)
    result = MultiLabelResult(classes=CLASSES, image=np.zeros((2, 3, 3), np.uint8), labels=labels)
    assert np.array_equal(cutting("cat", CLASSES, model=None).mask(result), labels & 0b010 > 0)
    assert np.array_equal(cutting("all", CLASSES, model=None).mask(result), labels & 0b110 > 0)


def test_unknown_classes_are_one_line_that_lists_the_known_ones() -> None:
    with pytest.raises(
        PointRendError, match=r"^no class is called 'cow'; expected all, or some of background, Cat, dog$"
    ):
        cutting(["cat", "cow"], CLASSES, model=None)
    with pytest.raises(PointRendError, match="specks must be at least 0 pixels, got -1"):
        cutting("all", CLASSES, specks=-1, model=None)


def test_specks_and_small_holes_are_removed_and_larger_ones_stay() -> None:
    mask = np.zeros((12, 12), bool)
    mask[1:8, 1:8] = True
    mask[3, 3] = False  # a hole of 1
    mask[5:7, 5] = False  # a hole of 2
    mask[10, 10:12] = True  # a speck of 2
    mask[10, 1:4] = True  # a part of 3
    assert np.array_equal(without_specks(mask, 1), mask)
    expected = mask.copy()
    expected[3, 3] = True
    assert np.array_equal(without_specks(mask, 2), expected)
    expected[5:7, 5], expected[10, 10:12] = True, False
    assert np.array_equal(without_specks(mask, 3), expected)
    expected[10, 1:4] = False
    assert np.array_equal(without_specks(mask, 4), expected)
    assert np.array_equal(without_specks(~mask, 2), ~without_specks(mask, 2))


def test_what_reaches_the_border_is_no_hole() -> None:
    mask = np.ones((6, 6), bool)
    mask[2, 2], mask[0, 4] = False, False
    expected = mask.copy()
    expected[2, 2] = True
    assert np.array_equal(without_specks(mask, 3), expected)
    assert not without_specks(mask, 1000).any()  # less than was asked for


def test_corners_do_not_join_parts() -> None:
    mask = np.zeros((6, 6), bool)
    mask[0:2, 0:2] = True
    mask[2, 2] = True
    assert np.array_equal(without_specks(mask, 2), mask & ~np.eye(6, k=0, dtype=bool) | (np.indices((6, 6)).max(0) < 2))


def test_the_edge_is_the_refiners_and_specks_of_it_are_removed() -> None:
    soft = np.zeros((8, 8), np.float32)
    soft[2:6, 2:6], soft[2:6, 6], soft[0, 0] = 1, 0.4, 0.9
    asked: list[np.ndarray] = []

    def refine(image: np.ndarray, mask: np.ndarray) -> Any:
        asked.append(mask)
        return SimpleNamespace(soft=soft)

    labels = np.zeros((8, 8), np.uint8)
    labels[2:6, 2:5], labels[7, 7] = 1, 2
    result = labelled(labels)
    alpha = np.asarray(Cutting((1, 2), 2, SimpleNamespace(refine=refine)).image(result))[..., 3]  # type: ignore[arg-type]
    assert np.array_equal(asked[0], labels == 1)  # the speck was gone before
    expected = np.round(255 * soft)
    expected[0, 0] = 0
    assert np.array_equal(alpha, expected)
    empty = Cutting((2,), 4, SimpleNamespace(refine=refine)).image(result)  # type: ignore[arg-type]
    assert np.asarray(empty)[..., 3].max() == 0
    assert len(asked) == 1  # nothing is no mask to refine


def test_a_result_knows_its_classes() -> None:
    assert np.array_equal(np.asarray(cut_out(labelled(), model=None))[..., 3] > 0, LABELS > 0)
    assert np.array_equal(np.asarray(cut_out(labelled(), ["dog"], model=None))[..., 3] > 0, LABELS == 2)
