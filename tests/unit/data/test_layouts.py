"""Each layout on a few generated files, and each way to get one wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_files import write_folder, write_image, write_labels

from pointrend.data.annotations import LabelValues
from pointrend.data.classes import ADE20K, CITYSCAPES, VOC
from pointrend.data.layouts import find_samples
from pointrend.data.samples import SampleSet


def stems(samples: SampleSet) -> list[str]:
    return [sample.image.stem for sample in samples.samples]


def values_of(samples: SampleSet) -> LabelValues:
    """What label values mean, which is the same in all samples."""
    (values,) = {sample.annotations.values for sample in samples.samples}
    return values


def check_error(reason: str, *args: object, **kwargs: object) -> str:
    with pytest.raises(ValueError, match=reason) as error:
        find_samples(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestFolder:
    def test_with_split_and_without(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "train", "abc", classes=None)
        write_folder(tmp_path / "val", "de", classes=None)
        (tmp_path / "classes.json").write_text('["background", "cat"]')
        for layout in ("folder", "people", None, "auto"):
            assert stems(find_samples(tmp_path, layout=layout, split="train")) == ["a", "b", "c"]
            found = find_samples(tmp_path / "val", layout=layout)
            assert stems(found) == ["d", "e"]
            assert [info.name for info in found.classes] == ["background", "cat"]
            assert found.layout == (layout if layout in ("folder", "people") else "folder")

    def test_suffixes_in_any_case_and_hidden_files(self, tmp_path: Path) -> None:
        write_folder(tmp_path, "a")
        for name in ("b.JPG", "c.jpeg", "d.WebP", "e.tiff", "f.bmp"):
            write_image(tmp_path / "images" / name)
            write_labels(tmp_path / "labels" / f"{name[0]}.png")
        (tmp_path / "images" / "notes.txt").touch()
        (tmp_path / "images" / "._a.png").touch()
        found = find_samples(tmp_path)
        assert stems(found) == list("abcdef")
        assert not found.unmatched_images

    def test_lookup_renumbers_past_ignored_classes(self, tmp_path: Path) -> None:
        classes = ["road", {"name": "unsure", "ignore": True}, "car", {"name": "own", "ignore": True}, "tree"]
        found = find_samples(write_folder(tmp_path, classes=classes), layout="folder")
        assert [info.name for info in found.classes] == ["road", "car", "tree"]
        assert values_of(found).lookup.dtype == np.uint8
        assert values_of(found).lookup[:5].tolist() == [0, 255, 1, 255, 2]
        assert set(values_of(found).lookup[5:]) == {255}
        assert np.flatnonzero(values_of(found).valid).tolist() == [0, 1, 2, 3, 4, 255]

    def test_without_classes(self, tmp_path: Path) -> None:
        write_folder(tmp_path, classes=None)
        assert '["background", "cat"' in check_error(r"no classes\.json", tmp_path, layout="folder")

    def test_unmatched(self, tmp_path: Path) -> None:
        write_folder(tmp_path, "abcd")
        (tmp_path / "labels" / "a.png").unlink()
        (tmp_path / "images" / "c.png").unlink()
        found = find_samples(tmp_path)
        assert stems(found) == ["b", "d"]
        assert found.unmatched_images == (tmp_path / "images" / "a.png",)
        assert found.unmatched_labels == (tmp_path / "labels" / "c.png",)

    def test_nothing_matches(self, tmp_path: Path) -> None:
        write_folder(tmp_path, "ab")
        for path in (tmp_path / "labels").iterdir():
            path.rename(path.with_name(f"{path.stem}_mask.png"))
        assert "a_mask.png" in check_error("no image has labels of the same name", tmp_path)

    def test_same_stem_twice(self, tmp_path: Path) -> None:
        write_folder(tmp_path)
        write_image(tmp_path / "images" / "a.jpg")
        check_error(r"a\.png: has the same name as a\.jpg", tmp_path)

    def test_missing_and_empty_folders(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "train")
        check_error(r"no split 'vla'; found splits: train", tmp_path, layout="folder", split="vla")
        check_error(r"no split 'vla'; found splits: train", tmp_path, split="vla")
        check_error(r"several splits, give one of them: train", tmp_path)
        check_error("images: no such folder", tmp_path, layout="folder")
        shutil.rmtree(tmp_path / "train" / "labels")
        check_error("labels: no such folder", tmp_path, split="train")
        (tmp_path / "train" / "labels").mkdir()
        check_error("labels: no images in this folder", tmp_path, split="train")

    def test_no_data_set(self, tmp_path: Path) -> None:
        check_error("no such folder", tmp_path / "missing")
        (tmp_path / "file").touch()
        check_error("is not a folder", tmp_path / "file")
        check_error("no data set found; found file; expected images/ and labels/", tmp_path)

    def test_unknown_layout(self, tmp_path: Path) -> None:
        check_error("'citiscapes', did you mean 'cityscapes'", tmp_path, layout="citiscapes")


def test_camvid(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", classes=None)
    found = find_samples(tmp_path, layout="camvid", split="train")
    assert stems(found) == ["a", "b", "c"]
    assert len(found.classes) == 11
    assert values_of(found).lookup[:12].tolist() == [*range(11), 255]
    assert np.flatnonzero(values_of(found).valid).tolist() == [*range(12), 255]


def write_cityscapes(root: Path) -> None:
    for split, city, frame in (("train", "ulm", "1"), ("train", "bonn", "2"), ("val", "ulm", "3")):
        stem = f"{city}_{frame}"
        write_image(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
        write_labels(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", [7, 0, 33])
        write_labels(root / "gtFine" / split / city / f"{stem}_gtFine_instanceIds.png")


@pytest.mark.parametrize("layout", ["cityscapes", None])
def test_cityscapes(tmp_path: Path, layout: str | None) -> None:
    write_cityscapes(tmp_path)
    found = find_samples(tmp_path, layout=layout, split="train")
    assert stems(found) == ["bonn_2_leftImg8bit", "ulm_1_leftImg8bit"]
    assert found.samples[0].annotations.path.name == "bonn_2_gtFine_labelIds.png"
    assert found.classes == CITYSCAPES
    ids = {
        "road": 7,
        "sidewalk": 8,
        "wall": 12,
        "pole": 17,
        "sky": 23,
        "rider": 25,
        "train": 31,
        "bicycle": 33,
    }
    for name, label_id in ids.items():
        assert CITYSCAPES[values_of(found).lookup[label_id]].name == name
    for ignored in (0, 3, 6, 9, 14, 18, 29, 30, 255):
        assert values_of(found).lookup[ignored] == 255
        assert values_of(found).valid[ignored]
    assert not values_of(found).valid[34:255].any()
    assert sorted(values_of(found).lookup[values_of(found).lookup < 255]) == list(range(19))


def test_cityscapes_without_labels_or_split(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    check_error(r"needs a split \(--split or split=\); found splits: train, val", tmp_path)
    check_error("no split 'test'; found splits: train, val", tmp_path, split="test")
    (tmp_path / "gtFine" / "train" / "ulm" / "ulm_1_gtFine_labelIds.png").unlink()
    found = find_samples(tmp_path, split="train")
    assert [path.name for path in found.unmatched_images] == ["ulm_1_leftImg8bit.png"]
    shutil.rmtree(tmp_path / "gtFine")
    check_error(r"no files CITY/\*_gtFine_labelIds\.png", tmp_path, split="train")


@pytest.mark.parametrize(("split", "count"), [("train", 2), ("training", 2), ("val", 1), ("validation", 1)])
def test_ade20k(tmp_path: Path, split: str, count: int) -> None:
    for own, names in (("training", "ab"), ("validation", "c")):
        for name in names:
            write_image(tmp_path / "images" / own / f"{name}.jpg")
            write_labels(tmp_path / "annotations" / own / f"{name}.png", [0, 150])
    for layout in ("ade20k", None):
        found = find_samples(tmp_path, layout=layout, split=split)
        assert len(found.samples) == count
        assert found.classes == ADE20K
        assert values_of(found).lookup[[0, 1, 2, 150, 151, 255]].tolist() == [255, 0, 1, 149, 255, 255]
        assert np.flatnonzero(values_of(found).valid).tolist() == [*range(151), 255]
    check_error("found splits: training, validation", tmp_path, split="test")


def test_voc(tmp_path: Path) -> None:
    for name in "abc":
        write_image(tmp_path / "JPEGImages" / f"{name}.jpg")
        write_labels(tmp_path / "SegmentationClass" / f"{name}.png")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("c\na\n")
    (lists / "val.txt").write_text("b\nmissing\n")
    for layout in ("voc", None):
        found = find_samples(tmp_path, layout=layout, split="train")
        assert stems(found) == ["a", "c"]
        assert found.classes == VOC
        assert values_of(found).lookup[[0, 20, 255]].tolist() == [0, 20, 255]
        assert np.flatnonzero(values_of(found).valid).tolist() == [*range(21), 255]
        assert not found.unmatched_images
    check_error(r"val\.txt: lists missing without image and label", tmp_path, split="val")
    check_error("found splits: train, val", tmp_path, split="test")


def write_voc_aug(root: Path) -> Path:
    """c and a of VOC's own, of which SBD has another label of a; d of SBD alone."""
    for name in "abcd":
        write_image(root / "JPEGImages" / f"{name}.jpg")
    for folder, names in (("SegmentationClass", "abc"), ("SegmentationClassAug", "ad")):
        for name in names:
            write_labels(root / folder / f"{name}.png")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, text in (("train", "c\na\n"), ("val", "b\n"), ("aug", "d\n\n")):
        (lists / f"{split}.txt").write_text(text)
    return lists


@pytest.mark.parametrize(
    "text", [None, "d\nc\na\n", "".join(f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png\n" for n in "cda")]
)
def test_voc_with_the_labels_of_sbd(tmp_path: Path, text: str | None) -> None:
    lists = write_voc_aug(tmp_path)
    if text is not None:
        (lists / "trainaug.txt").write_text(text)
    found = find_samples(tmp_path, split="trainaug")
    assert stems(found) == ["a", "c", "d"]
    folders = [sample.annotations.path.parent.name for sample in found.samples]
    assert folders == ["SegmentationClass", "SegmentationClass", "SegmentationClassAug"]
    assert stems(find_samples(tmp_path, split="train")) == ["a", "c"]
    assert not found.unmatched_images


def test_voc_without_what_sbd_adds(tmp_path: Path) -> None:
    lists = write_voc_aug(tmp_path)
    (tmp_path / "SegmentationClassAug" / "d.png").unlink()
    found = find_samples(tmp_path, split="trainaug")
    assert [path.name for path in found.unmatched_images] == ["d.jpg"]
    shutil.rmtree(tmp_path / "SegmentationClassAug")
    check_error(r"SegmentationClassAug: no such folder; the split 'trainaug' needs", tmp_path, split="trainaug")
    (lists / "aug.txt").unlink()
    check_error("no split 'trainaug'; found splits: train, val", tmp_path, split="trainaug")


def test_real_folders(test_data: Path) -> None:
    for split, count in (("train", 367), ("val", 101), ("test", 233)):
        found = find_samples(test_data / "camvid", layout="camvid", split=split)
        assert len(found.samples) == count
        assert not found.unmatched_images
        assert not found.unmatched_labels
    names = json.loads((test_data / "people" / "classes.json").read_text())
    for split, count in (("train", 800), ("val", 100)):
        for found in (
            find_samples(test_data / "people", layout="people", split=split),
            find_samples(test_data / "people" / split),
        ):
            assert len(found.samples) == count
            assert [info.name for info in found.classes] == names
            assert values_of(found).lookup[: len(names)].tolist() == list(range(12))
            assert found.classes[0].color == (0, 0, 0)
