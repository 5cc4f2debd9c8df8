"""Splits that mean nothing, or something else than they seem to, are refused or read rightly, never silently used."""

from __future__ import annotations

import json
import math
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people_files import SIZE, Content, coco_content, disc, prepared, write_coco, write_labels
from PIL import Image

from pointrend.data import DatasetError, checks, find_samples
from pointrend.errors import PointRendWarning


def each_annotation(**changes: Any) -> Any:
    def edit(content: Content) -> None:
        for one in content["annotations"]:
            one |= changes

    return edit


def first(key: str, **changes: Any) -> Any:
    def edit(content: Content) -> None:
        content[key][0] |= changes

    return edit


def refusal(root: Path, layout: str, *settings: str) -> str:
    with pytest.raises(DatasetError) as error:
        prepared(root, layout, *settings)
    return str(error.value)


def test_counts_of_a_split_are_kept(tmp_path: Path) -> None:
    training = prepared(write_labels(tmp_path / "a", lambda mask: mask.astype(np.uint8)), "folder")
    train, val = training.contents
    discs = sum(int(disc(seed).sum()) for seed in (0, 1))
    assert train.counts.tolist() == [2 * SIZE[0] * SIZE[1] - discs, discs]
    assert (train.ignored, train.images, val.images) == (0, 2, 2)
    training = prepared(write_coco(tmp_path / "b"), "coco")
    assert [census.counts.tolist() for census in training.contents] == [[2], [2]]


def test_masks_of_0_and_255_say_what_255_means_and_how_to_map_it(tmp_path: Path) -> None:
    root = write_labels(tmp_path, lambda mask: mask.astype(np.uint8) * 255)
    said = refusal(root, "folder")
    assert "255 means ignored, so that 'rust' occurs nowhere" in said
    assert '{"name": "rust", "value": 255}' in said
    (root / "classes.json").write_text('["background", {"name": "rust", "value": 255}]')
    train, _ = prepared(root, "folder").contents
    assert train.counts[1] == disc(0).sum() + disc(1).sum()


@pytest.mark.parametrize(
    ("layout", "value", "said"),
    [
        ("folder", 255, "train: every pixel of its label images is ignored"),
        ("instance-ids", 0, "train: all ids of its 2 id images are 0"),
    ],
)
def test_labels_without_a_class_are_refused(tmp_path: Path, layout: str, value: int, said: str) -> None:
    classes = ("background", "rust") if layout == "folder" else None
    root = write_labels(tmp_path, lambda mask: np.full(mask.shape, value, np.uint8), classes=classes)
    if layout == "folder":  # not even the hint about 0 and 255 helps here
        (root / "classes.json").write_text('["rust", "dent"]')
        assert "occurs nowhere" in refusal(root, layout)
        (root / "classes.json").write_text('[{"name": "rust", "value": 1}, {"name": "dent", "value": 2}]')
        (root / "train/labels/r0.png").unlink()
        (root / "train/images/r0.png").unlink()
        assert "occurs nowhere" in refusal(root, layout)
    else:
        assert said in refusal(root, layout)


def test_ignored_pixels_alone_are_refused(tmp_path: Path) -> None:
    classes = ["rust", "dent", {"name": "unsure", "ignore": True}]
    root = write_labels(tmp_path, lambda mask: np.full(mask.shape, 2, np.uint8), classes=classes)
    assert "every pixel of its label images is ignored" in refusal(root, "folder", "data.allow_empty_classes=true")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (each_annotation(segmentation=[]), "none of its 2 objects has a pixel"),
        (each_annotation(segmentation=[[0.1, 0.1, 0.5, 0.1, 0.5, 0.6]]), "coordinates in 0..1; multiply them"),
        (lambda content: content.update(annotations=[]), "no annotations of objects"),
        (each_annotation(iscrowd=1), "no annotations of objects"),
    ],
)
def test_objects_that_teach_nothing_are_refused(tmp_path: Path, edit: Any, said: str) -> None:
    assert said in refusal(write_coco(tmp_path, edit), "coco")


def test_a_class_that_occurs_nowhere_is_refused_unless_allowed(tmp_path: Path) -> None:
    root = write_labels(tmp_path / "a", lambda mask: mask.astype(np.uint8), classes=["background", "rust", "dent"])
    said = refusal(root, "folder")
    assert said.startswith("train: no image shows 'dent'; ")
    assert "--allow-empty-classes" in said
    prepared(root, "folder", "data.allow_empty_classes=true")
    root = write_coco(tmp_path / "b", lambda content: content["categories"].append({"id": 2, "name": "dent"}))
    assert "no image shows 'dent'" in refusal(root, "coco")


def test_a_class_that_val_lacks_and_images_without_objects_are_warned_of(tmp_path: Path) -> None:
    def edit(content: Content) -> None:
        content["categories"].append({"id": 2, "name": "dent"})
        if content["annotations"][0]["segmentation"] == coco_content("train", 2)["annotations"][0]["segmentation"]:
            content["annotations"][0]["category_id"] = 2
        del content["annotations"][1]
        content["annotations"].append({**content["annotations"][0], "id": 9, "category_id": 1})

    root = write_coco(tmp_path, edit)
    with pytest.warns(PointRendWarning) as warned:
        prepared(root, "coco")
    texts = [str(one.message) for one in warned]
    assert "1 of 2 images of train show no object" in texts
    assert "val does not show dent" in texts


def test_masks_given_as_ids_are_refused_and_one_number_for_blobs_warned_of(tmp_path: Path) -> None:
    def blobs(mask: np.ndarray, value: int) -> np.ndarray:
        ids = np.zeros(SIZE, np.uint8)
        for y in (4, 24):
            for x in (4, 24, 44):
                ids[y : y + 9, x : x + 9] = value
        return ids

    root = write_labels(tmp_path / "a", lambda mask: blobs(mask, 255), classes=None)
    assert "every object needs a number of its own" in refusal(root, "instance-ids")
    root = write_labels(tmp_path / "b", lambda mask: blobs(mask, 1), classes=None)
    with pytest.warns(PointRendWarning, match="most id images of train hold one number for separate blobs"):
        prepared(root, "instance-ids")
    root = write_labels(tmp_path / "c", lambda mask: mask.astype(np.uint8) * 255, classes=None)
    train, _ = prepared(root, "instance-ids").contents  # one object an image, whatever its number
    assert train.counts.tolist() == [2]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c["images"][1].update(id=1), "two images have the id 1"),
        (lambda c: c["images"][1].update(file_name="r0.png"), "two images have the file_name 'r0.png'"),
        (lambda c: c["categories"].append({"id": 1, "name": "dent"}), "two categories have the id 1"),
        (lambda c: c["categories"].append({"id": 2, "name": "rust"}), "two categories have the name 'rust'"),
        (first("images", id="img-1"), "an image's id must be a whole number, got 'img-1'"),
        (first("images", id=True), "an image's id must be a whole number, got true"),
        (first("images", id=[1]), "an image's id must be a whole number, got a list of 1"),
        (first("images", height=None), "height of image 1 must be a whole number, got null"),
        (first("images", width="wide"), "width of image 1 must be a whole number, got 'wide'"),
        (first("images", width=10**30), "width of image 1 must be a whole number"),
        (first("images", height=0), "height of image 1 must be 1 to 1000000 pixels, got 0"),
        (first("images", file_name=7), "file_name of image 1 must be a text, got 7"),
        (first("images", file_name="\ud800.png"), "file_name of image 1 must have no control characters"),
        (first("images", file_name="a" * 5000), "file_name of image 1 must have at most 4096 characters, got 5000"),
        (first("annotations", category_id=[1]), "category_id of annotation 1 must be a whole number, got a list of 1"),
        (first("annotations", image_id=None), "image_id of annotation 1 must be a whole number, got null"),
        (first("categories", id=math.inf), "a category's id must be a whole number, got inf"),
        (first("categories", name=None), "the name of category 1 must be a text, got null"),
        (
            first("categories", name="\x1b[2Jrust"),
            r"must have no control characters, got '\x1b[2Jrust'",
        ),
    ],
)
def test_files_that_cannot_be_understood_are_refused_with_their_name(tmp_path: Path, edit: Any, said: str) -> None:
    message = refusal(write_coco(tmp_path, edit), "coco")
    assert message.startswith(f"{tmp_path / 'annotations/instances_train.json'}: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bbox": [1, 2, 3]}, "bbox must be four numbers x, y, width, height, got a list of 3"),
        ({"bbox": [0, 0, math.inf, 1]}, "bbox must be a finite number, got inf"),
        ({"bbox": [0, 0, -1, 1]}, "width and height of at least 0"),
        ({"bbox": {"x": 1}}, "bbox must be four numbers x, y, width, height, got an object of 1 keys"),
        ({"area": "large"}, "area must be a finite number, got 'large'"),
        ({"area": math.nan}, "area must be a finite number, got nan"),
        ({"area": [4]}, "area must be a finite number, got a list of 1"),
        ({"area": -3}, "area must be at least 0, got -3"),
        ({"iscrowd": 2}, "iscrowd must be 0 or 1, got 2"),
        ({"iscrowd": "no"}, "iscrowd must be a whole number, got 'no'"),
        ({"segmentation": None}, "no segmentation"),
        ({"segmentation": [[1, 2]]}, "a polygon must be x, y of at least three points, got 2 numbers"),
        ({"segmentation": [[None] * 6]}, "a polygon must"),
        ({"segmentation": 5}, "a segmentation must be polygons, RLE or a bitmap, got int"),
        ({"segmentation": [[0, 0, 9e5, 0, 0, 9e5] * 9]}, "outlines are longer"),
        ({"segmentation": {"size": list(SIZE), "counts": "o" * 100_000}}, "too large"),
        ({"segmentation": {"size": list(SIZE), "counts": [10**500]}}, "list of numbers of pixels"),
        ({"segmentation": {"size": list(SIZE), "runs": [1]}}, "RLE must have 'size' and 'counts', got 'runs, size'"),
        ({"segmentation": [[10**400] * 6]}, "a polygon must be a list of numbers"),
    ],
)
def test_annotations_that_evaluation_cannot_read_are_found_before_training(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    root = write_coco(tmp_path, first("annotations", **changes))
    message = refusal(root, "coco")
    assert said in message
    assert f"{root / 'annotations/instances_train.json'}: annotation 1: " in message
    with pytest.warns(PointRendWarning, match=r"1 objects of train are left out, first .*annotation 1: "):
        training = prepared(root, "coco", "data.skip_bad=true")
    assert [census.counts.tolist() for census in training.contents] == [[1], [1]]
    assert training.val_samples is not None
    for sample in training.val_samples.samples:
        sample.annotations.truth(SIZE)


def test_what_tools_leave_out_is_taken_from_the_mask_and_text_is_read_as_numbers(tmp_path: Path) -> None:
    def edit(content: Content) -> None:
        content["annotations"][0] |= {"bbox": [], "area": None, "iscrowd": "0"}
        content["annotations"][1] |= {"bbox": None, "area": "64.0", "iscrowd": False}
        for image in content["images"]:
            image["id"] = str(image["id"])
        for one in content["annotations"]:
            one["image_id"] = f"{one['image_id']}.0" if False else str(one["image_id"])

    training = prepared(write_coco(tmp_path, edit), "coco")
    assert training.val_samples is not None
    box, again = (sample.annotations.truth(SIZE) for sample in training.val_samples.samples)
    rows, columns = np.nonzero(disc(100))
    assert box.boxes[0].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert box.areas[0] == (columns.max() + 1 - columns.min()) * (rows.max() + 1 - rows.min())
    assert again.areas.tolist() == [64.0]
    assert not box.crowd[0]


def test_a_stray_point_does_not_cost_an_object(tmp_path: Path) -> None:
    def edit(content: Content) -> None:
        content["annotations"][0]["segmentation"] += [[30.0, 20.0], [1, 2, 3, 4]]

    root = write_coco(tmp_path, edit)
    with pytest.warns(PointRendWarning, match="2 polygons of train have only one or two points and are left out"):
        training = prepared(root, "coco")
    plain = prepared(write_coco(tmp_path / "plain"), "coco")
    for one, other in zip(training.train_samples.samples, plain.train_samples.samples, strict=True):
        assert np.array_equal(one.annotations.read(SIZE).ids, other.annotations.read(SIZE).ids)


def test_unreadable_images_are_left_out_and_counted(tmp_path: Path) -> None:
    root = write_labels(tmp_path, lambda mask: mask.astype(np.uint8), count=3)
    (root / "train/images/r1.png").write_bytes(b"no image")
    assert "r1.png: not an image" in refusal(root, "folder")
    with pytest.warns(PointRendWarning, match=r"1 images of train are left out, first .*r1\.png: not an image"):
        training = prepared(root, "folder", "data.skip_bad=true")
    assert [sample.image.stem for sample in training.train_samples.samples] == ["r0", "r2"]
    for path in (root / "train/images").iterdir():
        path.write_bytes(b"no image")
    assert "not an image" in refusal(root, "folder", "data.skip_bad=true")


class TestASplitIsOnlyItself:
    def test_one_file_is_not_two_splits(self, tmp_path: Path) -> None:
        root = write_coco(tmp_path)
        said = refusal(root / "annotations/instances_train.json", "coco")
        assert "expected the folder of a data set, which has both splits, got a file" in said

    def test_no_other_split_lends_its_images(self, tmp_path: Path) -> None:
        root = write_coco(tmp_path, folder="{}2017", file="annotations/instances_{}2017.json")
        (root / "val2017").rename(root / "away")
        said = refusal(root, "coco")
        assert f"{root / 'val/r0.png'}: no such file" in said or f"{root / 'val2017/r0.png'}: no such file" in said

    def test_a_common_folder_with_the_same_names_is_not_taken(self, tmp_path: Path) -> None:
        root = write_coco(tmp_path, folder="{}2017", file="annotations/instances_{}2017.json")
        (root / "images").mkdir()
        for path in (root / "train2017").iterdir():
            (root / "images" / path.name).write_bytes(path.read_bytes())
        val = prepared(root, "coco").val_samples
        assert val is not None
        assert {sample.image.parent.name for sample in val.samples} == {"val2017"}
        (root / "val2017").rename(root / "away")
        assert "no such file" in refusal(root, "coco")

    def test_an_image_of_both_splits_is_refused(self, tmp_path: Path) -> None:
        root = write_coco(tmp_path, folder="images")
        said = refusal(root, "coco")
        assert "in the training and in the validation split" in said
        with pytest.warns(PointRendWarning, match="trained and evaluated on the same split, train"):
            prepared(root, "coco", "data.val=train")

    def test_a_link_is_the_same_image(self, tmp_path: Path) -> None:
        root = write_labels(tmp_path, lambda mask: mask.astype(np.uint8))
        (root / "val/images/r0.png").unlink()
        (root / "val/images/r0.png").symlink_to(root / "train/images/r1.png")
        assert "in the training and in the validation split" in refusal(root, "folder")


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("{}/_annotations.coco.json", "{}"),
        ("annotations/{}.json", "{}"),
        ("annotations/instances_{}.json", "images/{}"),
        ("annotations/instances_{}2017.json", "images/{}2017"),
    ],
)
def test_files_where_tools_put_them(tmp_path: Path, file: str, folder: str) -> None:
    training = prepared(write_coco(tmp_path, file=file, folder=folder), "coco")
    assert training.val_samples is not None
    assert {sample.image.parent for sample in training.val_samples.samples} == {tmp_path / folder.format("val")}


def test_one_folder_for_all_and_other_names_of_val(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "p", file="annotations/{}.json", folder="images", splits=("train",))
    assert find_samples(root, task="instance", split="train").samples[0].image == root / "images/r0.png"
    root = write_coco(tmp_path / "r", file="{}/_annotations.coco.json", folder="{}", splits=("train", "valid"))
    assert find_samples(root, task="instance", split="val").samples[0].image == root / "valid/r0.png"
    root = write_coco(tmp_path / "c", file="annotations/instances_{}.json", folder="images/{}", splits=("default",))
    assert find_samples(root, task="instance").samples[0].image == root / "images/default/r0.png"
    with pytest.raises(DatasetError, match=r"instances_default\.json; rename it to annotations/instances_train\.json"):
        find_samples(root, task="instance", split="train")


@pytest.mark.parametrize("stated", ["{}\\Grün.png", "{}/Grün.png", "C:\\data\\{}\\Grün.png", "Grün.png"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_of_other_systems(tmp_path: Path, stated: str, form: str) -> None:
    root = write_coco(tmp_path, count=1)
    for split in ("train", "val"):
        (root / split / "r0.png").rename(root / split / unicodedata.normalize("NFD", "Grün.png"))
        path = root / "annotations" / f"instances_{split}.json"
        content = json.loads(path.read_text())
        content["images"][0]["file_name"] = unicodedata.normalize(form, stated.format(split))  # type: ignore[arg-type]
        path.write_text(json.dumps(content))
    val = prepared(root, "coco").val_samples
    assert val is not None
    assert val.samples[0].image.parent == root / "val"
    assert val.samples[0].image.is_file()


def test_deep_nesting_is_one_line(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    (root / "annotations/instances_train.json").write_text("[" * 100_000)
    said = refusal(root, "coco")
    assert said == f"{root / 'annotations/instances_train.json'}: cannot be read as JSON (nested too deeply)"


def test_ignored_pixels_beside_the_background_alone_are_no_masks_of_255(tmp_path: Path) -> None:
    """As in a small val split, where 255 marks boundaries and no object happens to be."""
    root = write_labels(tmp_path, lambda mask: mask.astype(np.uint8))
    for path in (root / "val/labels").iterdir():
        labels = np.zeros(SIZE, np.uint8)
        labels[:3] = 255
        Image.fromarray(labels).save(path)
    with pytest.warns(PointRendWarning, match="val does not show rust"):
        prepared(root, "folder")
    assert "255 means ignored" in refusal(
        write_labels(tmp_path / "b", lambda mask: mask.astype(np.uint8) * 255), "folder"
    )
    background = write_labels(tmp_path / "c", lambda mask: np.zeros(SIZE, np.uint8))
    assert "no image shows 'rust'" in refusal(background, "folder")  # there is no 255 to speak of


def test_empty_segmentations_are_refused_where_only_some_images_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "READ_WHOLE", 2)
    root = write_coco(tmp_path, each_annotation(segmentation=[]), count=6)
    assert "none of its 2 objects has a pixel" in refusal(root, "coco")
