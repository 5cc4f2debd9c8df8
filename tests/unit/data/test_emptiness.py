"""Images without objects are left out of training, by every layout's own annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import write_image
from PIL import Image

from pointrend.data import DatasetError, find_samples, repeat_factors, with_objects
from pointrend.errors import PointRendWarning
from pointrend.training.prepare import prepare
from pointrend.training.recipe import load_recipe

SIZE = (20, 30)
SQUARE = [[2, 3, 8, 3, 8, 9, 2, 9]]


def write_coco(root: Path, split: str = "val", first: int = 0) -> Path:
    """Images: 0 has two objects, 1 nothing, 2 a crowd alone, 3 a crowd and an object."""
    crowd = {"size": [*SIZE], "counts": [400, 100, 100]}
    entries: list[tuple[int, int, Any, int]] = [
        (0, 1, SQUARE, 0),
        (0, 2, SQUARE, 0),
        (2, 2, crowd, 1),
        (3, 2, crowd, 1),
    ]
    entries.append((3, 1, SQUARE, 0))
    content = {
        "images": [
            {"id": first + i, "file_name": f"{first + i}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in range(4)
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "bottle"}],
        "annotations": [
            {"id": i, "image_id": first + image, "category_id": category, "segmentation": shape, "iscrowd": crowds}
            | {"bbox": [2, 3, 6, 6], "area": 36}
            for i, (image, category, shape, crowds) in enumerate(entries, start=1)
        ],
    }
    for i in range(4):
        write_image(root / f"{split}2017" / f"{first + i}.jpg", size=SIZE)
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return root


def test_coco_without_nothing_and_without_crowds_alone(tmp_path: Path) -> None:
    found = find_samples(write_coco(tmp_path), task="instance", split="val")
    assert found.images_of_class == (2, 3)
    kept = with_objects(found)
    assert [sample.image_id for sample in kept.samples] == [0, 3]
    assert kept.images_of_class == (2, 2)
    # A class in all images asks for nothing more; before, both classes were rarer.
    assert repeat_factors(kept, 1.0).tolist() == [1.0, 1.0]
    assert (kept.classes, kept.category_ids, len(found.samples)) == (found.classes, found.category_ids, 4)


def test_masks_of_coco_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_samples(write_coco(tmp_path), task="instance", split="val")

    def never(*_: object) -> np.ndarray:
        raise AssertionError

    monkeypatch.setattr("pointrend.data.coco_annotations.to_mask", never)
    assert len(with_objects(found).samples) == 2


def test_id_images_are_read(tmp_path: Path) -> None:
    for name, value in (("a", 0), ("b", 7), ("c", 0)):
        ids = np.zeros(SIZE, np.uint16)
        ids[3:6, 3:6] = value
        write_image(tmp_path / "images" / f"{name}.png", size=SIZE)
        (tmp_path / "labels").mkdir(exist_ok=True)
        Image.fromarray(ids).save(tmp_path / "labels" / f"{name}.png")
    found = find_samples(tmp_path, task="instance")
    assert [sample.image.stem for sample in with_objects(found).samples] == ["b"]


def test_groups_of_cityscapes_are_no_objects(tmp_path: Path) -> None:
    for name, value in (("1", 26), ("2", 26001), ("3", 7), ("4", 7001)):  # a group of cars, a car, road, no thing
        write_image(tmp_path / "leftImg8bit" / "val" / "ulm" / f"ulm_{name}_leftImg8bit.png", size=SIZE)
        labels = tmp_path / "gtFine" / "val" / "ulm" / f"ulm_{name}_gtFine_instanceIds.png"
        labels.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(SIZE, value, np.uint16)).save(labels)
    found = find_samples(tmp_path, task="instance", split="val")
    assert [sample.image.stem for sample in with_objects(found).samples] == ["ulm_2_leftImg8bit"]


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png", size=SIZE)
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.zeros(SIZE, np.uint16)).save(tmp_path / "labels" / "a.png")
    with pytest.raises(DatasetError, match="none of the 1 images shows an object, and data"):
        with_objects(find_samples(tmp_path, task="instance"))


def test_training_says_how_many_were_left_out_and_evaluates_on_all(tmp_path: Path) -> None:
    write_coco(write_coco(tmp_path, "train"), "val", first=10)
    left_out = "2 images of train without objects are left out of training"
    with pytest.warns(PointRendWarning, match=left_out):
        training = prepare(load_recipe("coco-rcnn-r50-1x", ["data.train=train", "data.val=val"]), tmp_path)
    assert len(training.train_samples.samples) == 2
    assert training.val_samples is not None
    assert len(training.val_samples.samples) == 4
    every = prepare(
        load_recipe("coco-rcnn-r50-1x", ["data.train=train", "data.val=val", "data.skip_empty=false"]), tmp_path
    )
    assert len(every.train_samples.samples) == 4


def test_no_image_is_opened_where_the_annotations_tell(tmp_path: Path) -> None:
    found = find_samples(write_coco(tmp_path), task="instance", split="val")
    for sample in found.samples:
        sample.image.unlink()
    assert len(with_objects(found).samples) == 2
