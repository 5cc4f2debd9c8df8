"""COCO's JSON for semantic models, label images in colours, id images of several classes: by values, and each error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import write_folder, write_image
from export_files import (
    COLORS,
    DOOR,
    HOUSE,
    SIZE,
    filled,
    flat,
    house_labels,
    write_colored,
    write_labelmap,
    write_roboflow,
)
from PIL import Image

from pointrend.data import DatasetError, check_dataset, ensure_sound, find_samples
from pointrend.data.layouts import find_splits
from pointrend.data.painted import painted, painted_classes, painted_labels
from pointrend.data.samples import SampleSet


def truth(samples: SampleSet, index: int = 0) -> np.ndarray:
    labels: np.ndarray = samples.samples[index].annotations.truth(SIZE)
    return labels


def check_error(reason: str, *args: object, **kwargs: object) -> None:
    """Finding, checking or reading fails with the reason."""
    with pytest.raises(DatasetError, match=reason):
        ensure_sound(find_samples(*args, **kwargs))  # type: ignore[arg-type]


class TestPainting:
    def test_small_over_large_in_each_layer_and_over_crowds(self) -> None:
        large, small, crowd = filled((0, 0, 6, 6)), filled((2, 2, 4, 4)), filled((3, 0, 8, 6))
        found = painted([small, crowd, large], [1, 2, 3], [False, True, False], SIZE)
        expected = np.zeros(SIZE, np.uint8)
        expected[crowd], expected[large], expected[small] = 255, 3, 1
        np.testing.assert_array_equal(found, expected)
        below = painted([small, large], [1, 3], [False, False], SIZE, layers=[0, 1])
        np.testing.assert_array_equal(below, np.where(large, 3, 0))

    def test_of_equal_objects_the_later(self) -> None:
        found = painted([filled(DOOR), filled(DOOR)], [1, 2], [False, False], SIZE)
        assert found.max() == found[3, 3] == 2

    def test_a_category_called_background_is_the_background(self) -> None:
        names = ["cat", "_background_", "dog"]
        assert [info.name for info in painted_classes(names)] == ["background", "cat", "dog"]
        assert painted_labels(names) == (1, 0, 2)
        assert painted_classes(names, [(1, 2, 3), None, None])[1].color == (1, 2, 3)
        with pytest.raises(DatasetError, match="no category beside the background"):
            painted_classes(["Background"])
        with pytest.raises(DatasetError, match="at most 254 categories fit into a label map, got 255"):
            painted_classes([f"c{i}" for i in range(255)])


def write_coco(root: Path, annotations: list[dict[str, Any]]) -> Path:
    write_image(root / "images" / "a.png", size=SIZE)
    made = [{"id": number, "image_id": 1, "iscrowd": 0, **annotation} for number, annotation in enumerate(annotations)]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
        "categories": [{"id": 9, "name": "house"}, {"id": 4, "name": "door"}],
        "annotations": made,
    }
    path = root / "annotations" / "instances_train2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


class TestCocoSemantic:
    OBJECTS = ({"category_id": 4, "segmentation": [flat(DOOR)]}, {"category_id": 9, "segmentation": [flat(HOUSE)]})

    def test_objects_are_painted(self, tmp_path: Path) -> None:
        crowd = {"category_id": 9, "iscrowd": 1, "segmentation": {"size": [6, 8], "counts": [0, 12, 36]}}
        path = write_coco(tmp_path, [*self.OBJECTS, crowd])
        for samples in (
            find_samples(tmp_path, task="semantic", split="train"),
            find_samples(tmp_path, layout="coco-semantic", split="train"),
            find_samples(path, task="semantic"),
        ):
            assert (samples.layout, samples.task, samples.metrics) == ("coco-semantic", "semantic", ("semantic",))
            assert samples.class_names == ("background", "door", "house")
            expected = house_labels(2, 1)
            expected[:, :2] = 255
            np.testing.assert_array_equal(truth(samples), expected)
            np.testing.assert_array_equal(samples.samples[0].annotations.read(SIZE), expected)
        census = ensure_sound(samples).census
        assert (census.counts.tolist(), census.ignored) == ([48 - 12 - 20, 4, 16], 12)

    def test_without_a_task_it_stays_instances(self, tmp_path: Path) -> None:
        write_coco(tmp_path, [*self.OBJECTS])
        assert find_samples(tmp_path, split="train").layout == "coco"
        (tmp_path / "labels").mkdir()
        (tmp_path / "classes.json").write_text('["a"]')
        with pytest.raises(DatasetError, match="labels: no images"):  # images/ and labels/ are what they were
            find_samples(tmp_path, task="semantic")

    def test_wrong_objects_are_named_and_can_be_left_out(self, tmp_path: Path) -> None:
        line = {"category_id": 9, "segmentation": [[1, 1, 5, 5]]}
        write_coco(tmp_path, [*self.OBJECTS, line])
        samples = find_samples(tmp_path, task="semantic", split="train")
        with pytest.raises(
            DatasetError, match="annotation 2: a polygon must be x, y of at least three points, got 4 numb"
        ):
            ensure_sound(samples)
        np.testing.assert_array_equal(truth(ensure_sound(samples, skip_bad=True).samples), house_labels(2, 1))

    def test_roboflow_lists_a_category_above_the_others(self, tmp_path: Path) -> None:
        write_roboflow(tmp_path)
        assert find_splits(tmp_path, task="semantic") == ("coco-semantic", ["train", "valid"])
        samples = find_samples(tmp_path, task="semantic", split="val")
        assert samples.class_names == ("background", "door", "house")
        np.testing.assert_array_equal(truth(samples), house_labels(2, 1))
        assert find_samples(tmp_path, task="instance", split="train").class_names == ("door", "house")


def write_colors(root: Path, classes: object = None) -> Path:
    write_image(root / "images" / "a.png", size=SIZE)
    write_colored(root / "labels" / "a.png", house_labels(1, 2))
    listed = [{"name": name, "color": color} for name, color in COLORS.items()] if classes is None else classes
    (root / "classes.json").write_text(json.dumps(listed))
    return root


class TestColors:
    def test_colors_are_classes(self, tmp_path: Path) -> None:
        samples = find_samples(write_colors(tmp_path))
        assert (samples.layout, samples.class_names) == ("colors", ("background", "house", "door"))
        assert [info.color for info in samples.classes] == list(COLORS.values())
        np.testing.assert_array_equal(truth(samples), house_labels(1, 2))
        assert ensure_sound(samples).census.counts.tolist() == [28, 16, 4]

    def test_a_palette_and_transparency_are_colors_too(self, tmp_path: Path) -> None:
        samples = find_samples(write_colors(tmp_path))
        path = tmp_path / "labels" / "a.png"
        colored = Image.open(path).convert("RGB")
        for image in (colored.convert("RGBA"), colored.convert("P", palette=Image.Palette.ADAPTIVE)):
            image.save(path)
            np.testing.assert_array_equal(truth(samples), house_labels(1, 2))

    def test_ignored_classes(self, tmp_path: Path) -> None:
        ignored = [{"name": "sky", "color": [0, 0, 0], "ignore": True}, {"name": "house", "color": [10, 20, 30]}]
        door = {"name": "door", "color": [255, 0, 0]}
        samples = find_samples(write_colors(tmp_path, [*ignored, door]))
        assert samples.class_names == ("house", "door")
        expected = house_labels(1, 2) - np.uint8(1)
        np.testing.assert_array_equal(truth(samples), expected)
        assert truth(samples)[0, 0] == 255
        others = find_samples(write_colors(tmp_path, [*ignored, {"name": "other", "ignore": True}]))
        np.testing.assert_array_equal(truth(others), np.where(filled(HOUSE) & ~filled(DOOR), 0, 255))

    def test_an_unknown_color_is_named_with_its_file(self, tmp_path: Path) -> None:
        samples = find_samples(write_colors(tmp_path))
        write_colored(tmp_path / "labels" / "a.png", house_labels(1, 2), [(0, 0, 0), (10, 20, 31), (255, 0, 0)])
        reason = (
            r"labels.a\.png: colour \(10, 20, 31\) of 16 pixels is of no class in classes\.json; the nearest is 'house'"
        )
        with pytest.raises(DatasetError, match=reason):
            truth(samples)
        assert [problem.kind for problem in check_dataset(samples).problems] == ["label value out of range"]
        check_error(reason, tmp_path)

    def test_tables_that_are_wrong(self, tmp_path: Path) -> None:
        check_error(
            "'house' has no colour, but label images are in colours",
            write_colors(tmp_path, [{"name": "background", "color": [0, 0, 0]}, "house"]),
        )
        same = [{"name": name, "color": [1, 1, 1]} for name in "ab"]
        check_error(r"'b' and 'a' have the same colour \(1, 1, 1\)", write_colors(tmp_path, same))
        (tmp_path / "classes.json").unlink()
        check_error(r"label images are in colours, but no classes\.json", tmp_path)

    def test_jpeg_and_other_sizes(self, tmp_path: Path) -> None:
        write_colors(tmp_path)
        write_colored(tmp_path / "labels" / "a.png", house_labels(1, 2)[:5])
        check_error(r"labels are 8 x 5, the image a\.png is 8 x 6", tmp_path)
        Image.new("RGB", (8, 6)).save(tmp_path / "labels" / "a.jpg")
        (tmp_path / "labels" / "a.png").unlink()
        check_error("labels must not be JPEG, which changes their colours", tmp_path, layout="colors")


class TestLabelmap:
    def test_classes_and_objects(self, tmp_path: Path) -> None:
        write_labelmap(tmp_path)
        assert find_splits(tmp_path) == ("labelmap", ["default"])
        for split in ("default", None):
            samples = find_samples(tmp_path, split=split)
            assert (samples.layout, samples.class_names) == ("labelmap", ("background", "house", "door"))
            np.testing.assert_array_equal(truth(samples), house_labels(1, 2))
        objects = find_samples(tmp_path, task="instance", split="default")
        assert (objects.layout, objects.class_names) == ("labelmap-instances", ("house", "door"))
        masks = objects.samples[0].annotations.read(SIZE)
        assert masks.classes.tolist() == [1, 0]  # by the numbers of their colours: green before red
        np.testing.assert_array_equal(masks.mask(0), filled(DOOR))
        np.testing.assert_array_equal(masks.mask(1), filled(HOUSE) & ~filled(DOOR))
        assert ensure_sound(objects).census.counts.tolist() == [1, 1]

    def test_ignored_labels(self, tmp_path: Path) -> None:
        path = write_labelmap(tmp_path) / "labelmap.txt"
        path.write_text(path.read_text().replace("door:", "ignored:"))
        samples = find_samples(tmp_path)
        assert samples.class_names == ("background", "house")
        np.testing.assert_array_equal(truth(samples), house_labels(1, 255))

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("window:1,2::", r"labelmap\.txt: line 5 must be name:red,green,blue:: \(0 to 255\), got 'window:1,2::'"),
            ("window:1,2,256::", "line 5 must be name:red,green,blue::"),
            ("door:1,2,3::", "line 5 lists 'door' a second time"),
            ("window:255,0,0::", r"'window' and 'door' have the same colour \(255, 0, 0\)"),
        ],
    )
    def test_wrong_lines(self, tmp_path: Path, line: str, reason: str) -> None:
        path = write_labelmap(tmp_path) / "labelmap.txt"
        path.write_text(f"{path.read_text()}{line}\n")
        check_error(reason, tmp_path)

    def test_without_images(self, tmp_path: Path) -> None:
        write_labelmap(tmp_path)
        (tmp_path / "JPEGImages").rename(tmp_path / "elsewhere")
        check_error(r"JPEGImages: no such folder; export with the images \('Save images' in CVAT\)", tmp_path)


class TestIdsOfSeveralClasses:
    def write(self, root: Path, values: dict[tuple[int, int, int, int], int], classes: object = None) -> Path:
        write_image(root / "images" / "a.png", size=SIZE)
        ids = np.zeros(SIZE, np.uint16)
        for box, value in values.items():
            ids[filled(box)] = value
        (root / "labels").mkdir(exist_ok=True)
        Image.fromarray(ids).save(root / "labels" / "a.png")
        (root / "classes.json").write_text(json.dumps(classes or ["background", "house", "door"]))
        return root

    def test_thousands_are_classes_and_a_class_alone_is_a_crowd(self, tmp_path: Path) -> None:
        self.write(tmp_path, {HOUSE: 1007, DOOR: 2000, (0, 0, 1, 1): 2999, (7, 5, 8, 6): 1})
        samples = find_samples(tmp_path, task="instance")
        assert (samples.layout, samples.class_names, samples.category_ids) == (
            "instance-ids",
            ("house", "door"),
            (1, 2),
        )
        found = truth(samples)
        assert found.classes.tolist() == [0, 0, 1, 1]
        assert found.crowd.tolist() == [True, False, False, False]
        masks = samples.samples[0].annotations.read(SIZE)
        np.testing.assert_array_equal(masks.mask(1), filled(HOUSE) & ~filled(DOOR))
        np.testing.assert_array_equal(masks.mask(2), filled(DOOR))
        assert ensure_sound(samples).census.counts.tolist() == [1, 2]

    def test_ids_of_no_class(self, tmp_path: Path) -> None:
        reason = (
            r"a\.png: id 3001 is of no class; with several classes ids are 1000 times the class's value and a number: "
        )
        self.write(tmp_path, {HOUSE: 3001})
        check_error(f"{reason}1000 to 1999, 2000 to 2999; if all objects", tmp_path, task="instance")
        self.write(tmp_path, {HOUSE: 5})
        check_error("id 5 is of no class", tmp_path, task="instance")

    def test_the_background_comes_first(self, tmp_path: Path) -> None:
        self.write(tmp_path, {HOUSE: 1001}, ["house", "door"])
        check_error(r"the first must be 'background' \(value 0\), got 'house'", tmp_path, task="instance")
        self.write(tmp_path, {HOUSE: 1001}, ["background", {"name": "door", "ignore": True}])
        check_error("no class with objects beside the background", tmp_path, task="instance")


class TestNothingFound:
    @pytest.mark.parametrize(
        ("folders", "reason"),
        [
            (("img", "mask"), r"found img/ and mask/: did you mean images/ and labels/\? expected"),
            (
                ("train/photos", "train/annotations"),
                r"in train/ found photos/ and annotations/: did you mean images/ and l",
            ),
            (("a", "b", "c", "d", "e", "f"), "found a/, b/, c/, d/, e/ and 1 more; expected images/ and labels/"),
        ],
    )
    def test_the_nearest_is_named(self, tmp_path: Path, folders: tuple[str, ...], reason: str) -> None:
        for name in folders:
            (tmp_path / name).mkdir(parents=True)
        check_error(reason, tmp_path)

    def test_masks_beside_images(self, tmp_path: Path) -> None:
        write_folder(tmp_path)
        (tmp_path / "labels").rename(tmp_path / "masks")
        check_error(r"labels: no such folder; found images/ and masks/: did you mean images/ and labels/\?", tmp_path)

    def test_archives_are_to_be_unpacked(self, tmp_path: Path) -> None:
        (tmp_path / "export.zip").touch()
        check_error(r"found export\.zip: unpack it first", tmp_path)

    def test_ids_without_a_list_of_classes(self, tmp_path: Path) -> None:
        write_folder(tmp_path, classes=None)
        Image.fromarray(np.zeros(SIZE, np.uint16)).save(tmp_path / "labels" / "a.png")
        check_error("have more than 8 bits, as ids of objects have: those are of the task instance", tmp_path)
