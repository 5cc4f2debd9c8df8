"""Refined masks as files and pictures: cut-outs without the background's colours, change maps, names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointrend.errors import PointRendError
from pointrend.results import RefinedMask
from pointrend.results.cutouts import cutout
from pointrend.spec import REFINED_CLASSES


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A red square on a blue ground with an edge of three mixed pixels, and its alpha (H, W)."""
    alpha = np.zeros((60, 60), np.float32)
    alpha[:, 20:] = 1
    alpha[:, 17:20] = (0.25, 0.5, 0.75)
    red, blue = np.array([220.0, 30, 20]), np.array([10.0, 40, 230])
    image = alpha[..., None] * red + (1 - alpha[..., None]) * blue
    return image.round().astype(np.uint8), alpha


def result(labels: np.ndarray, given: np.ndarray, soft: np.ndarray | None = None) -> RefinedMask:
    image = np.full((*labels.shape, 3), 90, np.uint8)
    return RefinedMask(classes=REFINED_CLASSES, image=image, labels=labels, given=given, soft=soft)


def test_a_cutout_has_the_objects_colours_at_its_edge() -> None:
    image, alpha = scene()
    cut = cutout(image, alpha)
    np.testing.assert_array_equal(cut[..., 3], (255 * alpha).round())
    edge = cut[:, 17:20, :3].reshape(-1, 3).astype(int)
    assert np.abs(edge - np.array([220, 30, 20])).max() <= 3
    np.testing.assert_array_equal(cut[:, 20:, :3], image[:, 20:])
    assert not cut[:, :17].any()


def test_a_cutout_without_a_certain_pixel_keeps_the_photograph() -> None:
    image, _ = scene()
    thin = np.zeros((60, 60), np.float32)
    thin[:, 20:24] = 0.9
    cut = cutout(image, thin)
    np.testing.assert_array_equal(cut[:, 20:24, :3], image[:, 20:24])
    assert set(np.unique(cut[..., 3])) == {0, 230}
    assert not cutout(image, np.zeros((60, 60), np.float32)).any()


def test_only_the_edge_of_a_cutout_is_soft() -> None:
    image, alpha = scene()
    alpha[5, 3], alpha[5, 50], alpha[9, 40] = 0.4, 0.7, 0.2  # smoke, a half clear pixel inside, a hole
    found = cutout(image, alpha)[..., 3]
    assert (found[5, 3], found[5, 50], found[9, 40]) == (0, 255, 51)  # the hole has an edge, which is soft
    assert (found[5, 17], found[5, 19]) == (64, 191)
    large = np.zeros((900, 1200), np.float32)
    large[:, 600:] = 1
    large[:, 590:600] = 0.3
    edge = cutout(np.full((900, 1200, 3), 9, np.uint8), large)[0, 585:601, 3]
    assert edge.tolist() == [0] * 6 + [76] * 9 + [255]  # a hundredth of 900


def test_the_change_map_and_the_summary_count_pixels() -> None:
    given = np.zeros((8, 10), bool)
    given[2:6, 2:6] = True
    labels = given.copy()
    labels[2, 2], labels[6, 3] = False, True
    found = result(labels, given, labels.astype(np.float32))
    assert found.changed.sum() == 2
    assert found.summary() == {"image": None, "height": 8, "width": 10, "pixels": 16, "changed_pixels": 2}


def test_files_have_the_values_of_the_mask(tmp_path: Path) -> None:
    labels = np.zeros((8, 10), bool)
    labels[3:] = True
    soft = np.where(labels, 0.8, 0.1).astype(np.float32)
    found = result(labels, labels, soft)
    mask, edge, changed = found.save_as(tmp_path, ["mask", "soft", "changed"], stem="a")
    assert [path.name for path in (mask, edge, changed)] == ["a.png", "a_soft.png", "a_changed.png"]
    assert set(np.unique(np.asarray(Image.open(mask)))) == {0, 255}
    assert set(np.unique(np.asarray(Image.open(edge)))) == {26, 204}
    assert not np.asarray(Image.open(changed)).any()
    many = result(np.arange(80, dtype=np.int32).reshape(8, 10) * 9, labels.astype(np.int32))
    (path,) = many.save(tmp_path, stem="b")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), many.labels)


def test_the_overlay_has_both_outlines() -> None:
    given, labels = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    given[:, 10:], labels[:, 20:] = True, True
    drawn = np.asarray(result(labels, given).overlay())
    assert drawn[5, 20].tolist() == [255, 40, 40]
    assert drawn[5, 10].tolist() == [150, 150, 150]
    assert drawn[5, 35].tolist() == [90, 90, 90]


def test_what_cannot_be_saved_is_said(tmp_path: Path) -> None:
    labels = np.ones((4, 4), np.uint8)
    with pytest.raises(PointRendError, match="soft is for masks of one object"):
        result(labels, labels).save_as(tmp_path, ["soft"], stem="a")
    with pytest.raises(PointRendError, match="expected some of mask, soft, cutout"):
        result(labels, labels).save_as(tmp_path, ["sofa"], stem="a")
    assert list(tmp_path.iterdir()) == []


def test_specks_are_removed_from_the_mask_and_its_soft_edge() -> None:
    soft = np.zeros((12, 12), np.float32)
    soft[2:9, 2:9], soft[4, 4], soft[11, 11], soft[2, 9] = 0.9, 0.2, 0.8, 0.4
    found = result(soft > 0.5, soft > 0.5, soft)
    cleaned = found.without_specks(3)
    expected = np.zeros((12, 12), bool)
    expected[2:9, 2:9] = True
    assert np.array_equal(cleaned.labels, expected)
    assert cleaned.soft is not None
    assert (cleaned.soft[4, 4], cleaned.soft[11, 11]) == (1, 0)
    assert cleaned.soft[2, 9] == np.float32(0.4)
    assert cleaned.changed.sum() == 2
    with pytest.raises(PointRendError, match="specks are removed from masks of one object; this one has labels"):
        result(np.ones((4, 4), np.int32), np.ones((4, 4), np.int32)).without_specks(3)
