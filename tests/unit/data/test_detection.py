"""Finding the layout of a folder by what is in it, for either task or for one."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pytest
from data_files import write_folder, write_image, write_labels
from PIL import Image

from pointrend.data import LAYOUTS, DatasetError, find_samples, layouts
from pointrend.errors import PointRendError

SEMANTIC = {"folder", "camvid", "people", "cityscapes", "ade20k", "voc", "coco-semantic", "colors", "labelmap"}
INSTANCE = {"coco", "lvis", "cityscapes-instances", "nuclei", "instance-ids", "labelmap-instances"}


def write_coco(root: Path, name: str = "instances_val2017") -> Path:
    write_image(root / "images" / "a.jpg")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 8}],
        "categories": [{"id": 1, "name": "cat", "frequency": "f"}],
        "annotations": [],
    }
    path = root / "annotations" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_cityscapes(root: Path) -> None:
    write_image(root / "leftImg8bit" / "val" / "ulm" / "ulm_1_leftImg8bit.png")
    for kind in ("labelIds", "instanceIds"):
        write_labels(root / "gtFine" / "val" / "ulm" / f"ulm_1_gtFine_{kind}.png", [7])


def test_all_layouts_are_found_in_the_folder() -> None:
    assert {name for name, layout in LAYOUTS.items() if layout.task == "semantic"} == SEMANTIC
    assert {name for name, layout in LAYOUTS.items() if layout.task == "instance"} == INSTANCE
    modules = [import_module(f"{layouts.__name__}.{module.name}") for module in iter_modules(layouts.__path__)]
    assert len(LAYOUTS) == sum(len(module.LAYOUTS) for module in modules), "no name stands for two layouts"


def test_images_and_labels_are_classes_unless_instances_are_asked_for(tmp_path: Path) -> None:
    write_folder(tmp_path, "ab", classes=["object"])
    for task, layout in ((None, "folder"), ("semantic", "folder"), ("instance", "instance-ids")):
        found = find_samples(tmp_path, task=task)
        assert (found.layout, found.task) == (layout, task or "semantic")
        assert found.samples[0].image_id == "a"


def test_cityscapes_has_both(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    for task, layout in ((None, "cityscapes"), ("semantic", "cityscapes"), ("instance", "cityscapes-instances")):
        assert find_samples(tmp_path, task=task, split="val").layout == layout


@pytest.mark.parametrize("task", [None, "instance"])
def test_coco_beside_a_folder_of_images(tmp_path: Path, task: str | None) -> None:
    path = write_coco(tmp_path)
    assert find_samples(tmp_path, task=task, split="val").layout == "coco"
    assert find_samples(path, task=task).layout == "coco"
    path.rename(path.with_name("lvis_v1_val.json"))
    assert find_samples(tmp_path, task=task, split="val").layout == "lvis"
    assert find_samples(path.with_name("lvis_v1_val.json"), task=task).layout == "lvis"


def test_metrics_are_named(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "cityscapes")
    write_coco(tmp_path / "coco")
    write_coco(tmp_path / "lvis", "lvis_val")
    write_folder(tmp_path / "folder", classes=["object"])
    expected = {
        ("cityscapes", "semantic"): ("semantic",),
        ("cityscapes", "instance"): ("coco", "f1", "cityscapes"),
        ("coco", "instance"): ("coco", "f1"),
        ("lvis", "instance"): ("lvis", "f1"),
        ("folder", "semantic"): ("semantic",),
        ("folder", "instance"): ("coco", "f1"),
    }
    for (folder, task), metrics in expected.items():
        split = None if folder == "folder" else "val"
        assert find_samples(tmp_path / folder, task=task, split=split).metrics == metrics


@pytest.mark.parametrize(("task", "layout"), [("semantic", "coco"), ("instance", "folder")])
def test_a_layout_of_the_other_task_is_one_line(tmp_path: Path, task: str, layout: str) -> None:
    other = {"semantic": "instance", "instance": "semantic"}[task]
    reason = f"layout '{layout}' is for {other} segmentation; choose one for {task} segmentation:"
    with pytest.raises(DatasetError, match=reason) as error:
        find_samples(tmp_path, task=task, layout=layout)
    assert "\n" not in str(error.value)


def test_nothing_there_says_what_is_expected(tmp_path: Path) -> None:
    for task, expected, other in (
        (None, SEMANTIC | INSTANCE, set()),
        ("semantic", SEMANTIC, INSTANCE),
        ("instance", INSTANCE, SEMANTIC),
    ):
        with pytest.raises(DatasetError, match="data set found; found nothing in it; expected images/ and l") as error:
            find_samples(tmp_path, task=task)
        named_only = {"camvid", "people", "nuclei"}
        assert all(f"({name})" in str(error.value) for name in expected - named_only)
        assert not any(f"({name})" in str(error.value) for name in other | named_only)


def test_a_file_is_annotations_or_no_data_set(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    assert find_samples(path, task="semantic").layout == "coco-semantic"
    with pytest.raises(DatasetError, match="is not a folder"):
        find_samples(tmp_path / "images" / "a.jpg", task="instance")


def test_errors_are_of_this_package(tmp_path: Path) -> None:
    with pytest.raises(PointRendError, match="no such folder"):
        find_samples(tmp_path / "nowhere")
    write_folder(tmp_path, classes=["object", "other"])
    with pytest.raises(
        PointRendError, match=r"classes\.json lists 2 classes of id images, so the first must be 'background'"
    ):
        find_samples(tmp_path, task="instance")
    shutil.rmtree(tmp_path / "labels")
    with pytest.raises(PointRendError, match="no such folder"):
        find_samples(tmp_path)


# what is true


def test_truth_of_label_images(tmp_path: Path) -> None:
    write_folder(tmp_path, "a", classes=[{"name": "unsure", "ignore": True}, "cat", "dog"])
    write_labels(tmp_path / "labels" / "a.png", [0, 1, 2, 255])
    known = find_samples(tmp_path).samples[0].annotations
    truth = known.truth((6, 8))
    assert truth.dtype == np.uint8
    assert truth[0].tolist() == [255, 0, 1, 255] * 2
    assert np.array_equal(known.read((6, 8)).numpy(), truth)
    assert known.classes is None
    with pytest.raises(DatasetError, match=r"a\.png: labels are \(6, 8\), the image is \(6, 9\)"):
        known.truth((6, 9))


def test_truth_of_id_images(tmp_path: Path) -> None:
    write_folder(tmp_path, "a", classes=["object"])
    ids = np.zeros((6, 8), np.uint16)
    ids[1:3, 2:7], ids[5, 0] = 300, 2
    Image.fromarray(ids).save(tmp_path / "labels" / "a.png")
    truth = find_samples(tmp_path, task="instance").samples[0].annotations.truth((6, 8))
    assert truth.boxes.tolist() == [[0, 5, 1, 6], [2, 1, 7, 3]]
    assert (truth.boxes.dtype, truth.classes.dtype, truth.crowd.dtype) == (np.float32, np.int64, bool)
    assert (truth.classes.tolist(), truth.crowd.tolist()) == ([0, 0], [False, False])
    assert [mask["size"] for mask in truth.masks] == [[6, 8]] * 2
    assert truth.areas is truth.instance_ids is None
    assert truth.absent == truth.incomplete == ()


def test_truth_of_cityscapes(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    ids = np.full((6, 8), 7, np.uint16)
    ids[:2, :2], ids[4:, 4:] = 26001, 24
    Image.fromarray(ids).save(tmp_path / "gtFine" / "val" / "ulm" / "ulm_1_gtFine_instanceIds.png")
    truth = find_samples(tmp_path, task="instance", split="val").samples[0].annotations.truth((6, 8))
    assert truth.boxes.tolist() == [[4, 4, 8, 6], [0, 0, 2, 2]]
    assert (truth.classes.tolist(), truth.crowd.tolist()) == ([0, 2], [True, False])
    assert truth.boxes.dtype == np.float32
    assert truth.instance_ids.dtype == np.int32
    assert np.array_equal(truth.instance_ids, ids)


def test_truth_of_lvis(tmp_path: Path) -> None:
    path = write_coco(tmp_path, "lvis_val")
    content = json.loads(path.read_text())
    content["categories"].append({"id": 9, "name": "dog", "frequency": "r"})
    content["images"][0] |= {"neg_category_ids": [9], "not_exhaustive_category_ids": [1]}
    square = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]}
    content["annotations"] = [square | {"bbox": [1.5, 1, 2.25, 2], "area": 5.5}, square | {"id": 2}]
    path.write_text(json.dumps(content))
    known = find_samples(tmp_path, split="val").samples[0].annotations
    truth = known.truth((6, 8))
    assert known.classes == (0, 0)
    assert (truth.absent, truth.incomplete) == ((1,), (0,))
    assert truth.boxes.tolist() == [[1.5, 1, 3.75, 3], [1, 1, 4, 3]]
    assert truth.areas.tolist() == [5.5, 6]
    assert truth.boxes.dtype == truth.areas.dtype == np.float64
    assert truth.instance_ids is None
