"""Each format of exports on a hand-made miniature, by values, and each way to get one wrong, by its message."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import write_image
from export_files import (
    DOOR,
    HOUSE,
    SIZE,
    brush_rle,
    corners,
    cvat_mask,
    cvat_polygon,
    filled,
    house_labels,
    labelme_shape,
    png_text,
    studio_brush,
    studio_polygon,
    studio_result,
    write_cvat,
    write_labelme,
    write_studio,
    write_yolo,
    yolo_line,
)

from pointrend.data.exports import FORMATS, detected
from pointrend.data.exports.brush import decode_brush
from pointrend.data.exports.shapes import ellipse, rectangle
from pointrend.data.problems import DatasetError
from pointrend.data.segmentations import to_mask

WRITERS = {"cvat": write_cvat, "label-studio": write_studio, "labelme": write_labelme, "yolo": write_yolo}
SPLIT = {"yolo": "train"}


def label_map(name: str, root: Path) -> np.ndarray:
    samples = FORMATS[name].read(root).splits("semantic")[SPLIT.get(name, "")]
    labels: np.ndarray = samples.samples[0].annotations.truth(SIZE)
    return labels


def masks(name: str, root: Path) -> list[tuple[str, np.ndarray]]:
    samples = FORMATS[name].read(root).splits("instance")[SPLIT.get(name, "")]
    truth = samples.samples[0].annotations.truth(SIZE)
    return [(samples.class_names[k], to_mask(rle, SIZE)) for k, rle in zip(truth.classes, truth.masks, strict=True)]


def check_error(reason: str, name: str, root: Path) -> None:
    """Reading, or decoding what was read, fails with one line."""
    with pytest.raises(DatasetError, match=reason) as error:
        label_map(name, root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", FORMATS)
def test_a_miniature_is_recognised_and_read(name: str, tmp_path: Path) -> None:
    root = WRITERS[name](tmp_path)
    assert detected(root) == FORMATS[name].title
    assert [other for other, form in FORMATS.items() if form.matches(root)] == [name]
    export = FORMATS[name].read(root)
    names = [category.name for category in export.categories]
    assert sorted(names) == ["door", "house"]
    assert export.splits("semantic")[SPLIT.get(name, "")].class_names == ("background", *names)
    # A door in a house is a door, in whatever order they are listed.
    np.testing.assert_array_equal(
        label_map(name, root), house_labels(1 + names.index("house"), 1 + names.index("door"))
    )
    found = dict(masks(name, root))
    np.testing.assert_array_equal(found["house"], filled(HOUSE))
    np.testing.assert_array_equal(found["door"], filled(DOOR))


class TestCvat:
    def test_colors_and_subsets(self, tmp_path: Path) -> None:
        write_cvat(tmp_path)
        path = tmp_path / "annotations.xml"
        path.write_text(path.read_text().replace('name="a.png"', 'name="a.png" subset="Validation"'))
        export = FORMATS["cvat"].read(path)
        assert [category.color for category in export.categories] == [(10, 20, 30), (255, 0, 0)]
        assert [info.color for info in export.splits("semantic")["val"].classes] == [
            (0, 0, 0),
            (10, 20, 30),
            (255, 0, 0),
        ]

    def test_higher_layers_lie_over_lower_ones(self, tmp_path: Path) -> None:
        write_cvat(tmp_path, [cvat_polygon("house", HOUSE, z_order=1), cvat_polygon("door", DOOR, z_order=0)])
        np.testing.assert_array_equal(label_map("cvat", tmp_path), house_labels(1, 1))

    def test_masks_start_with_zeros(self, tmp_path: Path) -> None:
        # Three rows of four: 0011 / 1000 / 0001
        write_cvat(tmp_path, [cvat_mask("door", (2, 1, 6, 4), "2, 3, 6, 1")])
        expected = np.zeros(SIZE, np.uint8)
        expected[1, 4:6] = expected[2, 2] = expected[3, 5] = 2
        np.testing.assert_array_equal(label_map("cvat", tmp_path), expected)

    def test_boxes_and_ellipses_are_outlines_and_lines_are_left_out(self, tmp_path: Path) -> None:
        box = '<box label="house" xtl="2" ytl="1" xbr="7" ybr="5"/>'
        ring = '<ellipse label="door" cx="4" cy="4" rx="1.4" ry="1.4"/>'
        line = '<polyline label="door" points="0,0;5,5"/>'
        write_cvat(tmp_path, [box, ring, line])
        np.testing.assert_array_equal(label_map("cvat", tmp_path), house_labels(1, 2))
        assert FORMATS["cvat"].read(tmp_path).notes == (
            "1 of kind polyline are left out: they cover no area",
            "1 rectangles are taken as the outlines of objects",
        )

    @pytest.mark.parametrize(
        ("shape", "reason"),
        [
            (cvat_polygon("dor", DOOR), r"polygon 1: label 'dor' is not in .* annotations\.xml, did you mean 'door'"),
            ('<polygon label="door" points="1,1;2,2"/>', r"polygon 1 \(door\): a polygon must be x, y of at least"),
            ('<polygon label="door" points="1,1;2"/>', r"points must be x,y;x,y"),
            ('<polygon label="door" points="1,1;2,b;3,3"/>', r"a coordinate must be a finite number, got 'b'"),
            ('<circle label="door"/>', r"unknown shape 'circle'; expected polygon, mask"),
            (cvat_mask("door", (2, 1, 6, 4), "2, 3, 6"), r"its rle must have 12 pixels, got 11"),
            (cvat_mask("door", (2, 1, 6, 4), "99, -87"), r"its rle must have 12 pixels, got 12"),
            (cvat_mask("door", (6, 1, 10, 4), "12"), r"its window 6,1 of 4 x 3 is not in 8 x 6 pixels"),
        ],
    )  # fmt: skip
    def test_wrong_shapes(self, tmp_path: Path, shape: str, reason: str) -> None:
        check_error(reason, "cvat", write_cvat(tmp_path, [shape]))

    def test_wrong_files(self, tmp_path: Path) -> None:
        check_error(r"no annotations\.xml of CVAT", "cvat", tmp_path)
        write_cvat(tmp_path)
        path = tmp_path / "annotations.xml"
        good = path.read_text()
        for changed, reason in (
            (good[:-20], r"cannot be read as XML \(unclosed token"),
            (good.replace("<image", "<track/><image", 1), "is 'CVAT for video'; export as 'CVAT for images 1.1'"),
            (re.sub("<labels>.*</labels>", "", good, flags=re.DOTALL), "lists no labels"),
            (good.replace('width="8"', 'width="9"'), r"states 9 x 6 pixels, .*a\.png has 8 x 6"),
            (good.replace("#ff0000", "red"), "colour must be #RRGGBB, got 'red'"),
        ):
            path.write_text(changed)
            check_error(reason, "cvat", tmp_path)

    def test_entities_are_refused(self, tmp_path: Path) -> None:
        bomb = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
        check_error("has a document type or entities, which are refused", "cvat", write_cvat(tmp_path, head=bomb))


class TestLabelme:
    def test_groups_masks_circles_and_rectangles(self, tmp_path: Path) -> None:
        window = filled((0, 0, 2, 1), (1, 3))
        shapes = [
            labelme_shape("house", [[0, 0], [1, 0], [1, 6], [0, 6]], group_id=1),
            labelme_shape("house", [[7, 0], [8, 0], [8, 6], [7, 6]], group_id=1),
            labelme_shape("door", [[3, 2], [5, 2]], shape_type="mask", mask=png_text(window)),
            labelme_shape("door", [[3, 4], [5, 6]], shape_type="rectangle"),
            labelme_shape("lamp", [[6, 2], [6, 0.9]], shape_type="circle"),
            labelme_shape("lamp", [[6, 2]], shape_type="point"),
        ]
        found = masks("labelme", write_labelme(tmp_path, shapes))
        assert [name for name, _ in found] == ["house", "door", "door", "lamp"]
        np.testing.assert_array_equal(found[0][1], filled((0, 0, 1, 6)) | filled((7, 0, 8, 6)))
        np.testing.assert_array_equal(found[1][1], filled((3, 2, 5, 3)))
        np.testing.assert_array_equal(found[2][1], filled((3, 4, 5, 6)))
        np.testing.assert_array_equal(found[3][1], filled((5, 1, 7, 3)))

    def test_the_list_of_labels(self, tmp_path: Path) -> None:
        root = write_labelme(
            tmp_path, [labelme_shape("door", corners(DOOR)), labelme_shape("__ignore__", corners(HOUSE))]
        )
        (root / "labels.txt").write_text("__ignore__\n_background_\nhouse\ndoor\n")
        assert FORMATS["labelme"].read(root).splits("semantic")[""].class_names == ("background", "house", "door")
        np.testing.assert_array_equal(label_map("labelme", root), house_labels(255, 2))
        (root / "labels.txt").write_text("__ignore__\nhouse\ndoors\n")
        check_error(r"a\.json: shape 1: label 'door' is not in labels\.txt, did you mean 'doors'\?", "labelme", root)

    def test_folders_are_splits_and_images_are_relative_to_their_file(self, tmp_path: Path) -> None:
        for split in ("train", "valid"):
            write_labelme(tmp_path / split / "json", imagePath="..\\photos\\a.png")
            (tmp_path / split / "json" / "a.png").unlink()
            write_image(tmp_path / split / "photos" / "a.png", size=SIZE)
        assert detected(tmp_path) == "labelme"
        assert list(FORMATS["labelme"].read(tmp_path).splits("semantic")) == ["train", "val"]

    @pytest.mark.parametrize(
        ("shape", "reason"),
        [
            (labelme_shape("door", [[1, 1], [2, 2]]), r"a\.json: shape 1 \(door\): a polygon must be x, y of at"),
            (labelme_shape("door", [[1, 1], [2]]), r"a\.json: shape 1: points must be a list of \[x, y\]"),
            (labelme_shape("door", [[1, 1], [2, None], [3, 3]]), "shape 1: y must be a finite number, got null"),
            (labelme_shape(3, corners(DOOR)), "shape 1: the label must be a text, got 3"),
            (labelme_shape("door", corners(DOOR), shape_type="blob"), "shape_type must be one of .*, got 'blob'"),
            (labelme_shape("door", corners(DOOR), shape_type="circle"), "a circle must have two points, got 4"),
            (labelme_shape("door", [[1, 1], [2, 2]], shape_type="mask", mask="?"), "its mask must be a PNG in base64"),
            (
                labelme_shape("door", [[7, 1], [9, 2]], shape_type="mask", mask=png_text(filled((0, 0, 2, 2), (2, 2)))),
                "its mask at 7,1 of 2 x 2 pixels is not in the image",
            ),
        ],
    )  # fmt: skip
    def test_wrong_shapes(self, tmp_path: Path, shape: dict[str, object], reason: str) -> None:
        check_error(reason, "labelme", write_labelme(tmp_path, [shape]))

    def test_wrong_files(self, tmp_path: Path) -> None:
        write_labelme(tmp_path)
        good = (tmp_path / "a.json").read_text()
        for changed, reason in (
            (good[:-9], r"a\.json: cannot be read as JSON \("),
            (good.replace('"shapes"', '"forms"'), "not a file of labelme: it has no list 'shapes'"),
            (good.replace('"imageWidth": 8', '"imageWidth": 80'), r"a\.json: states 80 x 6 pixels, .*a\.png has 8 x 6"),
            (good.replace('"imageWidth"', '"width"'), "no imageHeight and imageWidth"),
        ):
            write_labelme(tmp_path, stem="Z")  # a whole one, by which the folder is known
            (tmp_path / "a.json").write_text(changed)
            check_error(reason, "labelme", tmp_path)


class TestLabelStudio:
    def test_brushes(self, tmp_path: Path) -> None:
        root = write_studio(tmp_path, [studio_brush("house", filled(HOUSE)), studio_brush("door", filled(DOOR))])
        np.testing.assert_array_equal(label_map("label-studio", root), house_labels(2, 1))

    def test_brush_rle_is_read_bit_by_bit(self) -> None:
        rng = np.random.default_rng(0)
        for size in ((1, 1), (5, 7), (40, 30)):
            mask = rng.random(size) < 0.5
            mask[: size[0] // 2] = True
            np.testing.assert_array_equal(decode_brush(brush_rle(mask), size), mask)

    def test_rectangles_turn_about_their_corner(self, tmp_path: Path) -> None:
        # 4 wide and 5 high, turned by 90 degrees clockwise about (7, 1): columns 2 to 7, rows 1 to 5.
        turned = {
            "x": 87.5,
            "y": 100 / 6,
            "width": 50.0,
            "height": 100 * 5 / 6,
            "rotation": 90,
            "rectanglelabels": ["house"],
        }
        ring = {"x": 50.0, "y": 100 * 4 / 6, "radiusX": 17.5, "radiusY": 140 / 6, "ellipselabels": ["door"]}
        results = [studio_result("rectanglelabels", turned), studio_result("ellipselabels", ring)]
        root = write_studio(tmp_path, [*results, studio_result("choices", {"choices": ["sunny"]})])
        np.testing.assert_array_equal(label_map("label-studio", root), house_labels(2, 1))
        assert FORMATS["label-studio"].read(root).notes[0] == "1 of kind 'choices' are left out: they cover no area"

    @pytest.mark.parametrize(
        "address",
        [
            "a.png",
            "/data/local-files/?d=images%2Fa.png",
            "s3://bucket/some/where/a.png",
            "https://x.org/images/a.png?key=1",
        ],
    )
    def test_addresses_of_images(self, tmp_path: Path, address: str) -> None:
        export = FORMATS["label-studio"].read(write_studio(tmp_path, image=address))
        assert export.images[0].file == tmp_path / "images" / "a.png"

    def test_images_without_annotations_are_left_out(self, tmp_path: Path) -> None:
        path = write_studio(tmp_path) / "project-1.json"
        tasks = json.loads(path.read_text())
        path.write_text(json.dumps([*tasks, {"id": 8, "annotations": [], "data": {"image": "b.png"}}]))
        export = FORMATS["label-studio"].read(path)
        assert len(export.images) == 1
        assert export.notes == ("1 of kind image without annotations are left out: they cover no area",)

    @pytest.mark.parametrize(
        ("result", "reason"),
        [
            (studio_polygon("house", HOUSE) | {"original_width": 9}, r"task 7: result 2: states 9 x 6 pixels"),
            (studio_polygon("house", HOUSE) | {"image_rotation": 90}, "the image was rotated in the tool"),
            (studio_result("polygonlabels", {"points": [[1, 1], [2]], "polygonlabels": ["x"]}), "points must be a"),
            (
                studio_result("polygonlabels", {"points": [[1, 1], [2, 2]], "polygonlabels": ["x"]}),
                r"result 2 \(x\): a polygon must be x, y of at least three points",
            ),
            (studio_result("polygonlabels", {"points": [], "polygonlabels": ["x", "y"]}), "must have one label, got a"),
            (studio_result("polygonlabels", {"points": [], "polygonlabels": [4]}), "the label must be a text, got 4"),
            (studio_result("brushlabels", {"rle": [300], "brushlabels": ["x"]}), r"a list of numbers in 0\.\.255"),
            (studio_result("brushlabels", {"rle": [0] * 9, "brushlabels": ["x"]}), "rle must have 192 values for its"),
            (
                studio_result("brushlabels", {"rle": brush_rle(filled(HOUSE))[:-3], "brushlabels": ["x"]}),
                "result 2: a brush's rle ends too early",
            ),
        ],
    )  # fmt: skip
    def test_wrong_results(self, tmp_path: Path, result: dict[str, object], reason: str) -> None:
        check_error(reason, "label-studio", write_studio(tmp_path, [studio_polygon("door", DOOR), result]))

    def test_wrong_files(self, tmp_path: Path) -> None:
        path = write_studio(tmp_path) / "project-1.json"
        good = path.read_text()
        path.write_text(good[:-5])
        check_error(r"project-1\.json: cannot be read as JSON", "label-studio", path)
        path.write_text(json.dumps([{"image": "a.png", "label": []}]))
        check_error(r"export as 'JSON' \(not 'JSON-MIN'\)", "label-studio", tmp_path)
        path.write_text(json.dumps([{"annotations": [{}], "data": {}}]))
        check_error("task 1: an annotation must be an object with a list 'result'", "label-studio", tmp_path)


class TestYolo:
    @pytest.mark.parametrize(
        "key", [{"train": "../train/images"}, {"train": ["train"]}, {"path": "/far/away", "train": "train"}]
    )
    def test_where_roboflow_and_others_put_images(self, tmp_path: Path, key: dict[str, object]) -> None:
        write_image(tmp_path / "train" / "images" / "a.png", size=SIZE)
        write_yolo(tmp_path, names={"0": "door", 1: "house"}, **key)
        (tmp_path / "train" / "labels").mkdir()
        (tmp_path / "train" / "labels" / "a.txt").write_text(yolo_line(1, HOUSE))
        np.testing.assert_array_equal(label_map("yolo", tmp_path), house_labels(2, 2))

    def test_an_image_without_a_file_of_labels_shows_nothing(self, tmp_path: Path) -> None:
        samples = FORMATS["yolo"].read(write_yolo(tmp_path)).splits("semantic")["val"]
        assert samples.samples[0].annotations.truth(SIZE).max() == 0

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("2 0 0 1 0 1 1", r"train\.txt: line 2: class 2 is not in the names of data\.yaml, which are 0 to 1"),
            ("house 0 0 1 0 1 1", "line 2: the class must be a whole number, got 'house'"),
            ("1 0.5 0.5 0.2 0.2", "line 2: is a box, of which no mask can be learned"),
            ("1 0.5 0.5", r"line 2 \(house\): a polygon must be x, y of at least three points"),
            ("1 0 0 1 0 1 1 1", "a polygon must be x, y of at least three points, got 7 numbers"),
            ("1 0 0 8 0 8 6", r"coordinates must be ratios in 0\.\.1, got 0 to 8"),
            ("1 0 0 1 x 1 1", "a coordinate must be a finite number, got 'x'"),
        ],
    )
    def test_wrong_lines(self, tmp_path: Path, line: str, reason: str) -> None:
        check_error(reason, "yolo", write_yolo(tmp_path, [yolo_line(0, DOOR), line]))

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            ({"names": {0: "door", 2: "house"}}, r"the keys of names must be 0 to 1, got \[0, 2\]"),
            ({"names": []}, "names must be a list of the classes' names, got a list of 0"),
            ({"names": ["door", "door"]}, "class names must differ, 'door' occurs more than once"),
            ({"train": "list.txt"}, "lists of images in text files are not read"),
            ({"train": "nowhere"}, r"data\.yaml: train: no folder .*nowhere"),
            (
                {"train": "../../elsewhere"},
                r"data\.yaml: train: the path .* leaves the folder .*; paths must stay in it",
            ),
        ],
    )
    def test_wrong_descriptions(self, tmp_path: Path, more: dict[str, object], reason: str) -> None:
        check_error(reason, "yolo", write_yolo(tmp_path / "set", **more))
        (tmp_path / "set" / "data.yaml").write_text("names: [")
        check_error(r"data\.yaml: cannot be read as YAML", "yolo", tmp_path / "set")

    def test_as_supervision_reads_it(self, tmp_path: Path) -> None:
        supervision = pytest.importorskip("supervision")
        root = write_yolo(tmp_path)
        theirs = supervision.DetectionDataset.from_yolo(
            str(root / "images" / "train"), str(root / "labels" / "train"), str(root / "data.yaml"), force_masks=True
        )
        _, _, found = theirs[0]
        ours = dict(masks("yolo", root))
        for label, mask in zip(found.class_id, found.mask, strict=True):
            # It fills polygons with their outline's pixels at the right and below.
            left, top, right, bottom = HOUSE if theirs.classes[label] == "house" else DOOR
            np.testing.assert_array_equal(mask, filled((left, top, right + 1, bottom + 1)))
            np.testing.assert_array_equal(ours[theirs.classes[label]], filled((left, top, right, bottom)))


LEAVES: dict[str, Callable[[Path, str], Path]] = {
    "cvat": lambda root, name: write_cvat(root, name=name),
    "labelme": lambda root, name: write_labelme(root, imagePath=name),
    "label-studio": lambda root, name: write_studio(root, image=f"/data/local-files/?d={name}"),
}


@pytest.mark.parametrize("name", LEAVES)
def test_an_image_that_is_missing_or_outside(name: str, tmp_path: Path) -> None:
    write_image(tmp_path / "secret.png", size=SIZE)
    for path in ("../secret.png", "..\\..\\secret.png", "images/../../secret.png"):
        check_error(
            "the path .* leaves the folder .*; paths must stay in it", name, LEAVES[name](tmp_path / "set", path)
        )
    check_error(
        r"no image .*lost\.png; put it there, or export with images", name, LEAVES[name](tmp_path / "set", "lost.png")
    )
    write_image(tmp_path / "set" / "images" / "x.gif")
    write_image(tmp_path / "set" / "x.gif")
    check_error(
        "x.gif: data sets have .*; convert the image to one of them", name, LEAVES[name](tmp_path / "set", "x.gif")
    )


def test_shapes() -> None:
    assert rectangle(0, 0, 4, 2) == [0, 0, 4, 0, 4, 2, 0, 2]
    np.testing.assert_allclose(rectangle(0, 0, 4, 2, 90), [3, -1, 3, 3, 1, 3, 1, -1])
    x, y = np.array(ellipse(5, 7, 3, 2)).reshape(-1, 2).T
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert area == pytest.approx(np.pi * 6)
    x, y = np.array(ellipse(5, 7, 3, 2, 90)).reshape(-1, 2).T
    assert (np.ptp(x), np.ptp(y)) == (pytest.approx(4, rel=0.01), pytest.approx(6, rel=0.01))
