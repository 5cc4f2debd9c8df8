"""Instance data sets as they are distributed, small."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import write_image
from PIL import Image

from pointrend.data import DatasetError, ensure_sound, repeat_factors
from pointrend.data import find_samples as find_any_samples
from pointrend.data.coco_annotations import CocoAnnotations

SIZE = (20, 30)
SQUARE = [[2, 3, 8, 3, 8, 9, 2, 9]]
CROWD = {"size": [20, 30], "counts": [400, 100, 100]}

find_samples = partial(find_any_samples, task="instance")


def annotation(number: int, image: int, category: int, **more: Any) -> dict[str, Any]:
    made = {"id": number, "image_id": image, "category_id": category, "segmentation": SQUARE, "iscrowd": 0}
    return made | {"bbox": [2, 3, 6, 6], "area": 36} | more


def content() -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "height": 20, "width": 30},
            {"id": 3, "file_name": "a.jpg", "height": 20, "width": 30},
        ],
        "categories": [{"id": 44, "name": "bottle"}, {"id": 1, "name": "person"}],
        "annotations": [
            annotation(1, 3, 44),
            annotation(2, 3, 1, segmentation=[[4, 5, 10, 5, 10, 11, 4, 11]]),
            annotation(3, 3, 1, segmentation=CROWD, iscrowd=1),
        ],
    }


def write_coco(root: Path, changed: dict[str, Any] | None = None, *, name: str = "instances_val2017") -> Path:
    for stem in "ab":
        write_image(root / "val2017" / f"{stem}.jpg", size=SIZE)
    path = root / "annotations" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content() | (changed or {})))
    return path


def test_coco(tmp_path: Path) -> None:
    write_coco(tmp_path)
    found = find_samples(tmp_path, split="val")
    assert found.layout == "coco"
    assert [c.name for c in found.classes] == ["person", "bottle"]
    assert found.category_ids == (1, 44)
    assert [(s.image_id, s.image.name) for s in found.samples] == [(3, "a.jpg"), (7, "b.jpg")]
    assert found.images_of_class == (1, 1)
    masks = found.samples[0].annotations.read(SIZE)
    assert masks.classes.tolist() == [1, 0, 0]
    assert masks.crowd.tolist() == [False, False, True]
    assert masks.ids.shape[0] == 2  # two squares overlap, the crowd fits beside one
    assert [int(masks.mask(i).sum()) for i in range(3)] == [36, 36, 100]
    assert (masks.mask(0) & masks.mask(1)).sum() == 16
    assert len(found.samples[1].annotations.read(SIZE).classes) == 0
    ensure_sound(found)
    assert find_samples(tmp_path / "annotations" / "instances_val2017.json").samples


def test_lvis(tmp_path: Path) -> None:
    images = [
        {"id": 3, "coco_url": "http://images.cocodataset.org/val2017/a.jpg", "height": 20, "width": 30,
         "neg_category_ids": [44], "not_exhaustive_category_ids": [1]},
        {"id": 4, "coco_url": "http://images.cocodataset.org/val2017/b.jpg", "height": 20, "width": 30},
    ]  # fmt: skip
    categories = [{"id": 1, "name": "person", "frequency": "f"}, {"id": 44, "name": "bottle", "frequency": "r"}]
    changed = {"images": images, "categories": categories, "annotations": [annotation(1, 3, 1)]}
    write_coco(tmp_path, changed, name="lvis_v0.5_val_cocofied")
    found = find_samples(tmp_path, split="val")
    assert (found.layout, found.frequencies) == ("lvis", ("f", "r"))
    known = found.samples[0].annotations
    assert isinstance(known, CocoAnnotations)
    assert (known.negative, known.not_exhaustive) == ((1,), (0,))
    assert [s.image.name for s in found.samples] == ["a.jpg", "b.jpg"]
    assert all(s.image.is_file() for s in found.samples)


def test_repeat_factors(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 20, "width": 30} for i in range(16)]
    rare, common = 44, 1
    annotations = [annotation(1, 0, rare), annotation(2, 0, common), *(annotation(3 + i, i, common) for i in range(8))]
    write_coco(tmp_path, {"images": images, "annotations": annotations})
    found = find_samples(tmp_path, split="val")
    # sqrt(0.25 / (1 / 16)) = 2 for the rare class; a class in half of the images asks for nothing; empty ones are seen.
    assert repeat_factors(found, 0.25).tolist() == [2.0, *[1.0] * 15]
    assert repeat_factors(found, 1.0).tolist() == pytest.approx([4.0, *[2**0.5] * 7, *[1.0] * 8])


def test_repeat_factors_need_to_know(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs layout coco or lvis"):
        repeat_factors(find_samples(write_nuclei(tmp_path)), 0.01)


def write_nuclei(root: Path, ids: np.ndarray | None = None) -> Path:
    values = np.zeros(SIZE, np.uint16) if ids is None else ids
    write_image(root / "images" / "a.png", size=SIZE)
    (root / "labels").mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16)).save(root / "labels" / "a.png")
    return root


def test_images_of_ids(tmp_path: Path) -> None:
    ids = np.zeros(SIZE, np.uint16)
    ids[2:5, 2:5], ids[0, 0], ids[10:12, 28:30] = 300, 7, 7
    write_nuclei(tmp_path / "val", ids)
    for root, layout, split in ((tmp_path, "nuclei", "val"), (tmp_path / "val", "nuclei", None)):
        found = find_samples(root, layout=layout, split=split)
        assert [c.name for c in found.classes] == ["nucleus"]
        masks = found.samples[0].annotations.read(SIZE)
        assert masks.instance_ids.tolist() == [7, 300]
        assert [int(masks.mask(i).sum()) for i in range(2)] == [5, 9]
    assert [c.name for c in find_samples(tmp_path / "val").classes] == ["object"]
    (tmp_path / "val" / "classes.json").write_text('["cell"]')
    assert [c.name for c in find_samples(tmp_path / "val").classes] == ["cell"]
    (tmp_path / "val" / "classes.json").write_text('["cell", "wall"]')
    with pytest.raises(
        ValueError, match=r"classes\.json lists 2 classes of id images, so the first must be 'background'"
    ):
        find_samples(tmp_path / "val")


def test_cityscapes(tmp_path: Path) -> None:
    ids = np.full(SIZE, 7, np.int32)  # road
    ids[:4, :4], ids[6:9, 6:9], ids[12:14] = 26001, 24000, 26
    write_image(tmp_path / "leftImg8bit" / "val" / "ulm" / "ulm_1_leftImg8bit.png", size=SIZE)
    labels = tmp_path / "gtFine" / "val" / "ulm" / "ulm_1_gtFine_instanceIds.png"
    labels.parent.mkdir(parents=True)
    Image.fromarray(ids.astype(np.uint16)).save(labels)
    found = find_samples(tmp_path, split="val")
    assert (found.layout, len(found.classes), found.category_ids[0]) == ("cityscapes-instances", 8, 24)
    masks = found.samples[0].annotations.read(SIZE)
    assert [found.classes[c].name for c in masks.classes] == ["car", "person", "car"]
    assert masks.crowd.tolist() == [True, False, False]
    assert [int(masks.mask(i).sum()) for i in range(3)] == [60, 9, 16]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"images": None}, "no list 'images'"),
        ({"images": [], "annotations": []}, "lists no images"),
        ({"annotations": [annotation(9, 99, 1)]}, "annotation 9 is of image 99"),
        ({"annotations": [annotation(9, 3, 2)]}, "annotation 9 is of category 2"),
        ({"categories": [{"id": 1}]}, "each entry of 'categories' must be an object with id, name"),
        ({"images": [3]}, "each entry of 'images' must be an object with height, id, width"),
    ],
)
def test_annotation_files_that_are_none(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    write_coco(tmp_path, changed)
    with pytest.raises(ValueError, match=said) as error:
        find_samples(tmp_path, split="val")
    assert "\n" not in str(error.value)


def test_what_cannot_be_found(tmp_path: Path) -> None:
    for layout, said in ((None, "no instance data set found"), ("koko", "did you mean 'coco'")):
        with pytest.raises(ValueError, match=said):
            find_samples(tmp_path, layout=layout)
    with pytest.raises(ValueError, match="no such folder"):
        find_samples(tmp_path / "nowhere")
    write_coco(tmp_path)
    write_coco(tmp_path, name="instances_train2017")
    for split in (None, "test"):
        with pytest.raises(ValueError, match=r"instances_train2017\.json, annotations/instances_val2017\.json"):
            find_samples(tmp_path, split=split)
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        find_samples(tmp_path, split="val")
    write_nuclei(tmp_path / "n")
    write_image(tmp_path / "n" / "images" / "b.png", size=SIZE)
    with pytest.raises(ValueError, match="no labels of the same name"):
        find_samples(tmp_path / "n", layout="nuclei")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"annotations": [annotation(5, 3, 1, segmentation=[[1, 2]])]}, "annotation 5: a polygon"),
        ({"annotations": [{k: v for k, v in annotation(5, 3, 1).items() if k != "segmentation"}]}, "no segmentation"),
        ({"images": [{"id": 3, "file_name": "a.jpg", "height": 9, "width": 9}], "annotations": []}, "30 x 20"),
        ({"images": [{"id": 3, "file_name": "c.jpg", "height": 9, "width": 9}], "annotations": []}, "c.jpg"),
    ],
)
def test_unsound_files_are_named_before_training(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    write_coco(tmp_path, changed)
    with pytest.raises(DatasetError, match=said):
        ensure_sound(find_samples(tmp_path, split="val"))


def test_coco_photographs_have_pycocotools_masks(test_data: Path) -> None:
    from pycocotools.coco import COCO

    path = test_data / "coco" / "annotations" / "instances_val.json"
    reference = COCO(str(path))
    compared = 0
    for sample in find_samples(test_data / "coco", split="val").samples:
        known = sample.annotations
        assert isinstance(known, CocoAnnotations)
        stated = reference.loadAnns(reference.getAnnIds(sample.image_id))
        for one, mask in zip(stated, known.masks(known.size), strict=True):
            assert np.array_equal(mask, reference.annToMask(one).astype(bool)), one["id"]
            compared += 1
    assert compared > 500
