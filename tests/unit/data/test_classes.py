"""classes.json, the published class lists, generated colours."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pointrend.data import DatasetError
from pointrend.data.classes import (
    ADE20K,
    CAMVID,
    CITYSCAPES,
    CITYSCAPES_THINGS,
    COCO,
    VOC,
    ClassInfo,
    generate_colors,
    read_classes,
)


def write(folder: Path, content: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "classes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_names_and_objects(tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            "background",
            "cat",
            {"name": "dog", "color": [1, 2, 3]},
            {"name": "unsure", "ignore": True},
            {"name": "cow", "color": None},
        ],
    )
    described = read_classes(tmp_path)
    assert described is not None
    assert described.values == (0, 1, 2, 3, 4)
    classes = described.classes
    assert [info.name for info in classes] == ["background", "cat", "dog", "unsure", "cow"]
    assert [info.ignore for info in classes] == [False, False, False, True, False]
    assert classes[0] == ClassInfo("background", (0, 0, 0))
    assert classes[2].color == (1, 2, 3)
    assert len({info.color for info in classes}) == 5


def names(folder: Path) -> list[str]:
    described = read_classes(folder)
    return [] if described is None else [info.name for info in described.classes]


def test_a_class_may_state_its_value_in_label_images(tmp_path: Path) -> None:
    write(tmp_path, ["background", {"name": "rust", "value": 255}])
    described = read_classes(tmp_path)
    assert described is not None
    assert described.values == (0, 255)
    for value, said in ((0, "the values of classes must differ, 0 occurs"), (256, "integer in 0..255, got 256")):
        write(tmp_path, ["background", {"name": "rust", "value": value}])
        with pytest.raises(DatasetError, match=said):
            read_classes(tmp_path)


def test_folder_before_parent_and_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "data" / "train"
    inner.mkdir(parents=True)
    assert read_classes(inner) is None
    write(tmp_path, ["too", "far"])
    assert read_classes(inner) is None
    write(tmp_path / "data", ["parent"])
    assert names(inner) == ["parent"]
    # "." has a parent too.
    monkeypatch.chdir(inner)
    assert names(Path()) == ["parent"]
    write(inner, ["own"])
    assert names(inner) == ["own"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1, 2", "JSON"),
        ("", "JSON"),
        ({"0": "cat"}, "expected a list"),
        ([], "expected a list"),
        (["a", 3], "expected a name or an object with a name, got 3"),
        ([""], "expected a name"),
        ([{"color": [0, 0, 0]}], "expected a name"),
        ([{"name": "a", "colour": [0, 0, 0]}], "unknown key 'colour'"),
        ([{"name": "a", "color": [0, 0]}], "'a': color must be three integers"),
        ([{"name": "a", "color": [0, 0, 256]}], "'a': color must be three integers"),
        ([{"name": "a", "color": [0, 0, True]}], "'a': color must be three integers"),
        ([{"name": "a", "color": "red"}], "'a': color must be three integers"),
        ([{"name": "a", "ignore": "yes"}], "'a': ignore must be true or false"),
        (["a", "b", "a"], "'a' occurs more than once"),
        ([{"name": "a", "ignore": True}], "every class is ignored"),
        ([str(index) for index in range(256)], "at most 255"),
    ],
)
def test_bad_files_get_one_line(tmp_path: Path, content: object, reason: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=reason) as error:
        read_classes(tmp_path)
    assert str(error.value).startswith(f"{path.resolve()}: ")
    assert "\n" not in str(error.value)


def test_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match=r"classes\.json: cannot be read"):
        read_classes(tmp_path)


def test_published_lists() -> None:
    assert [len(classes) for classes in (CAMVID, CITYSCAPES, VOC, ADE20K)] == [12, 19, 21, 150]
    for classes in (CAMVID, CITYSCAPES, VOC, ADE20K):
        assert len({info.name for info in classes}) == len(classes)
        same_colour = 1 if classes is ADE20K else 0
        assert len({info.color for info in classes}) == len(classes) - same_colour
    assert [info.name for info in CAMVID if info.ignore] == ["void"]
    assert CAMVID[11].name == "void"
    # Entries of the VOC devkit's colour map.
    colors = {info.name: info.color for info in VOC}
    assert colors["background"] == (0, 0, 0)
    assert colors["aeroplane"] == (128, 0, 0)
    assert colors["person"] == (192, 128, 128)
    assert colors["tvmonitor"] == (0, 64, 128)
    assert (ADE20K[0].name, ADE20K[12].name, ADE20K[149].name) == ("wall", "person", "flag")
    # Of the benchmark's colours; road and skyscraper have the same.
    colors = {info.name: info.color for info in ADE20K}
    assert [colors[name] for name in ("wall", "person", "flag")] == [(120, 120, 120), (150, 5, 61), (92, 0, 255)]
    assert colors["road"] == colors["skyscraper"] == (140, 140, 140)


def test_generated_colours_differ_and_do_not_change() -> None:
    colors = generate_colors(20)
    assert colors[:7] == generate_colors(7)
    nearest = min(np.linalg.norm(np.subtract(a, b)) for a, b in combinations(colors, 2))
    assert nearest > 60
    # None is lost on black.
    assert min(max(color) for color in colors) > 60
    assert len(set(generate_colors(150))) == 150
    assert generate_colors(0) == ()


def test_generated_colours_are_seen_on_black_white_and_grey() -> None:
    colors = np.array(generate_colors(253))
    assert len(np.unique(colors, axis=0)) == 253
    assert colors.max(axis=1).min() > 80
    assert (255 - colors).max(axis=1).min() >= 40
    assert np.ptp(colors, axis=1).min() >= 30
    # There is no end: instances and LVIS's classes may be more.
    assert generate_colors(297)[253:] == generate_colors(44)


def test_colours_of_coco_are_generated_ones() -> None:
    """They stand in the table, so that nothing is computed where they are not shown, and do not change."""
    assert len(COCO) == 80
    assert tuple(info.color for info in COCO) == generate_colors(80)
    assert [info.name for info in CITYSCAPES_THINGS] == [info.name for info in CITYSCAPES[11:]]
    assert (COCO[0].name, COCO[79].name) == ("person", "toothbrush")
