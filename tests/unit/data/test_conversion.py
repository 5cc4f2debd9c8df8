"""Every export and layout becomes a data set of ours with the same labels, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import write_folder, write_image
from export_files import (
    DOOR,
    HOUSE,
    SIZE,
    filled,
    house_labels,
    labelme_shape,
    write_cvat,
    write_labelmap,
    write_labelme,
    write_roboflow,
    write_studio,
    write_yolo,
)
from PIL import Image

from pointrend.data import DatasetError, ensure_sound, find_samples
from pointrend.data.conversion import convert_data
from pointrend.data.exports import detected
from pointrend.data.overview import overview

SOURCES: dict[str, Callable[[Path], Path]] = {
    "CVAT": write_cvat,
    "Label Studio": write_studio,
    "labelme": write_labelme,
    "YOLO": write_yolo,
    "coco-semantic": write_roboflow,
    "labelmap": write_labelmap,
}


def image_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", SOURCES)
def test_semantic(name: str, tmp_path: Path) -> None:
    source = SOURCES[name](tmp_path / "source")
    done = convert_data(source, tmp_path / "out", val=None if name in ("YOLO", "coco-semantic") else 0)
    assert done.source == name
    assert sorted(done.classes) == ["background", "door", "house"]
    samples = find_samples(tmp_path / "out", split="train")
    assert (samples.layout, samples.class_names) == ("folder", done.classes)
    expected = house_labels(done.classes.index("house"), done.classes.index("door"))
    np.testing.assert_array_equal(samples.samples[0].annotations.truth(SIZE), expected)
    # The file itself: a palette image of class indices.
    image = Image.open(next((tmp_path / "out" / "train" / "labels").iterdir()))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), expected)
    copy = samples.samples[0].image
    assert copy.read_bytes() in [path.read_bytes() for path in source.rglob(copy.name)]
    ensure_sound(samples)
    assert overview(tmp_path / "out").layout == "folder"


@pytest.mark.parametrize("name", SOURCES)
def test_instances(name: str, tmp_path: Path) -> None:
    source = SOURCES[name](tmp_path / "source")
    done = convert_data(source, tmp_path / "out", task="instance", val=None if name in ("YOLO", "coco-semantic") else 0)
    assert sorted(done.classes) == ["door", "house"]
    samples = find_samples(tmp_path / "out", task="instance", split="train")
    assert (samples.layout, samples.class_names) == ("coco", done.classes)
    truth = samples.samples[0].annotations.truth(SIZE)
    masks = samples.samples[0].annotations.read(SIZE)
    found = {done.classes[label]: masks.mask(index) for index, label in enumerate(truth.classes)}
    np.testing.assert_array_equal(found["door"], filled(DOOR))
    house = filled(HOUSE) & ~filled(DOOR) if name == "labelmap" else filled(HOUSE)  # one colour at a pixel
    np.testing.assert_array_equal(found["house"], house)
    assert truth.boxes[done.classes.index("house") == truth.classes].tolist() == [list(HOUSE)]
    ensure_sound(samples)
    # Once more, from our own layout.
    convert_data(tmp_path / "out", tmp_path / "again", task="instance", val=0 if len(done.images) == 1 else None)
    names = [path.relative_to(tmp_path / "out") for path in sorted((tmp_path / "out").rglob("*.*"))]
    assert names == [path.relative_to(tmp_path / "again") for path in sorted((tmp_path / "again").rglob("*.*"))]
    for path in names:
        assert (tmp_path / "out" / path).read_bytes() == (tmp_path / "again" / path).read_bytes()


def test_colors_of_the_tool_are_kept(tmp_path: Path) -> None:
    convert_data(write_cvat(tmp_path / "source"), tmp_path / "out", val=0)
    listed = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert listed[1:] == [{"name": "house", "color": [10, 20, 30]}, {"name": "door", "color": [255, 0, 0]}]


def test_crowds_and_ignored_regions(tmp_path: Path) -> None:
    shapes = [
        labelme_shape("door", [[3, 3], [5, 3], [5, 5], [3, 5]]),
        labelme_shape("__ignore__", [[0, 0], [2, 0], [2, 6], [0, 6]]),
    ]
    source = write_labelme(tmp_path / "source", shapes)
    convert_data(source, tmp_path / "out", val=0)
    labels = find_samples(tmp_path / "out", split="train").samples[0].annotations.truth(SIZE)
    assert np.bincount(labels.ravel(), minlength=256)[[0, 1, 255]].tolist() == [32, 4, 12]
    convert_data(source, tmp_path / "instances", task="instance", val=0)
    truth = find_samples(tmp_path / "instances", task="instance", split="train").samples[0].annotations.truth(SIZE)
    assert truth.crowd.tolist() == [False, True]


class TestSplits:
    def many(self, root: Path, count: int = 10) -> Path:
        for index in range(count):
            write_labelme(root, stem=f"p{index}")
        return root

    def test_a_fifth_is_drawn_by_the_seed(self, tmp_path: Path) -> None:
        source = self.many(tmp_path / "source")
        drawn = {}
        for name, options in {"a": {}, "b": {}, "c": {"seed": 1}, "d": {"val": 0.5}}.items():
            done = convert_data(source, tmp_path / name, **options)  # type: ignore[arg-type]
            assert sum(done.images.values()) == 10
            drawn[name] = image_names(tmp_path / name / "val" / "images")
            assert not set(drawn[name]) & set(image_names(tmp_path / name / "train" / "images"))
        assert drawn["a"] == drawn["b"] != drawn["c"]
        assert [len(names) for names in drawn.values()] == [2, 2, 2, 5]

    def test_few_images(self, tmp_path: Path) -> None:
        assert convert_data(self.many(tmp_path / "two", 2), tmp_path / "out").images == {"train": 1, "val": 1}
        assert convert_data(self.many(tmp_path / "one", 1), tmp_path / "out1").images == {"train": 1}

    def test_splits_of_the_source_are_kept(self, tmp_path: Path) -> None:
        source = write_yolo(tmp_path / "source")
        assert convert_data(source, tmp_path / "out").images == {"train": 1, "val": 1}
        assert image_names(tmp_path / "out" / "val" / "images") == ["val.png"]
        with pytest.raises(DatasetError, match="--val is for sources without splits; this one has train, val"):
            convert_data(source, tmp_path / "other", val=0.2)
        with pytest.raises(DatasetError, match=r"val must be a ratio in 0\.\.1 below 1, got 1"):
            convert_data(source, tmp_path / "other", val=1)


class TestFiles:
    def test_names_that_come_twice_get_their_folders(self, tmp_path: Path) -> None:
        for folder in ("monday", "friday"):
            write_labelme(tmp_path / "source" / folder)
        convert_data(tmp_path / "source", tmp_path / "out", val=0)
        assert image_names(tmp_path / "out" / "train" / "images") == ["friday_a.png", "monday_a.png"]
        assert image_names(tmp_path / "out" / "train" / "labels") == ["friday_a.png", "monday_a.png"]

    def test_what_is_there_is_not_replaced(self, tmp_path: Path) -> None:
        source, out = write_cvat(tmp_path / "source"), tmp_path / "out"
        out.mkdir()
        convert_data(source, out)  # empty
        before = image_names(out)
        with pytest.raises(DatasetError, match="exists and is not an empty folder; choose another"):
            convert_data(source, out)
        assert image_names(out) == before

    def test_whole_or_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = write_cvat(tmp_path / "source")

        def full(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr("pointrend.data.conversion.shutil.copyfile", full)
        with pytest.raises(OSError, match="disk full"):
            convert_data(source, tmp_path / "out")
        assert image_names(tmp_path) == ["source"]

    def test_bad_images_and_objects_stop_it_or_are_left_out(self, tmp_path: Path) -> None:
        source = write_labelme(tmp_path / "source", [labelme_shape("door", [[1, 1], [2, 2]])], stem="b")
        write_labelme(source)
        write_labelme(source, stem="c")
        with pytest.raises(DatasetError, match=r"b\.png: .*shape 1 \(door\): a polygon must be x, y of at least three"):
            convert_data(source, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        path = source / "c.png"
        path.write_bytes(path.read_bytes()[:-25])  # its header is whole
        done = convert_data(source, tmp_path / "out", val=0, skip_bad=True)
        assert (done.images, done.notes) == ({"train": 2}, ("1 images that cannot be used are left out",))


class TestSources:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("nothing", "no such file or folder"),
            ("a.zip", "is an archive; unpack it and name the folder"),
            ("a.txt", r"is of no known format; expected annotations\.xml and images/ \(cvat\)"),
            (
                "folder",
                r"no data set found; .* or an export: annotations\.xml and images/ \(cvat\)",
            ),
        ],
    )
    def test_unknown(self, tmp_path: Path, name: str, reason: str) -> None:
        (tmp_path / "a.zip").touch()
        (tmp_path / "a.txt").touch()
        (tmp_path / "folder").mkdir()
        with pytest.raises(DatasetError, match=reason):
            convert_data(tmp_path / name, tmp_path / "out")

    def test_formats_by_name(self, tmp_path: Path) -> None:
        source = write_cvat(tmp_path / "source")
        with pytest.raises(DatasetError, match="unknown format 'cvt', did you mean 'cvat'"):
            convert_data(source, tmp_path / "out", form="cvt")
        with pytest.raises(DatasetError, match="no JSON files of labelme there"):
            convert_data(source, tmp_path / "out", form="labelme")
        assert convert_data(source, tmp_path / "out", form="cvat").source == "CVAT"

    def test_label_images_have_no_objects(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "source")
        with pytest.raises(DatasetError, match="layout 'folder' is for semantic segmentation; choose one for instance"):
            convert_data(tmp_path / "source", tmp_path / "out", form="folder", task="instance")

    def test_an_export_is_not_taken_for_a_data_set(self, tmp_path: Path) -> None:
        for name, write in SOURCES.items():
            source = write(tmp_path / name)
            if not detected(source):
                continue
            with pytest.raises(DatasetError, match=f"export of {name}: pointrend data convert .* OUT makes"):
                find_samples(source, task="semantic")
            with pytest.raises(DatasetError, match=f"looks like an export of {name}"):
                find_samples(source, split="train")

    def test_a_split_without_labels_is_left_out(self, tmp_path: Path) -> None:
        root = tmp_path / "source"
        (root / "images" / "training").mkdir(parents=True)
        write_image(root / "images" / "training" / "a.jpg", size=SIZE)
        write_image(root / "images" / "testing" / "b.jpg", size=SIZE)
        (root / "annotations" / "training").mkdir(parents=True)
        Image.fromarray(np.full(SIZE, 3, np.uint8)).save(root / "annotations" / "training" / "a.png")
        done = convert_data(root, tmp_path / "out", val=0)
        assert (done.source, done.images) == ("ade20k", {"train": 1})
        assert done.notes == ("the split test has no labels and is left out",)
