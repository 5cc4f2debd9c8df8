"""`pointrend data`: what is printed and drawn, exit codes, a line for each mistake, and the commands of the page."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import write_folder, write_image
from export_files import SIZE, write_cvat, write_labelme, write_roboflow, write_studio, write_yolo
from PIL import Image

from pointrend.cli import main

ROOT = Path(__file__).parents[3]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def called(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["data", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return called


def write_splits(root: Path) -> Path:
    write_folder(root / "train", "abc", classes=None)
    write_folder(root / "val", "de", classes=None)
    write_image(root / "train" / "images" / "a.png", size=(12, 16))
    Image.new("L", (16, 12), 1).save(root / "train" / "labels" / "a.png")
    (root / "classes.json").write_text('["background", {"name": "cat", "color": [255, 0, 0]}]')
    return root


class TestCheck:
    def test_says_what_there_is(self, run: Run, tmp_path: Path) -> None:
        code, out, _ = run("check", write_splits(tmp_path / "cats"))
        assert code == 0
        lines = [" ".join(line.split()) for line in out.splitlines() if line.strip()]
        assert lines[0] == f"{tmp_path / 'cats'}: layout folder, for semantic segmentation"
        assert "train 3 8 x 6 8 x 6 16 x 12 yes" in lines
        assert "val 2 8 x 6 8 x 6 8 x 6 yes" in lines
        assert "cat 240 (83.3 %) 48 (50.0 %)" in lines
        assert lines[-2:] == ["no problem found", "data-check.png: 5 samples"]
        assert Image.open(tmp_path / "data-check.png").format == "PNG"

    def test_json(self, run: Run, tmp_path: Path) -> None:
        code, out, _ = run("check", write_splits(tmp_path / "cats"), "--json", "--out", tmp_path / "x.png")
        found = json.loads(out)
        assert (code, found["layout"], found["sound"], found["picture"]) == (0, "folder", True, str(tmp_path / "x.png"))
        train, val = found["splits"]
        assert train["sizes"] == {"smallest": [6, 8], "median": [6, 8], "largest": [12, 16]}
        assert (train["classes"], val["classes"]) == ({"background": 48, "cat": 240}, {"background": 48, "cat": 48})

    def test_instances(self, run: Run, tmp_path: Path) -> None:
        code, out, _ = run("check", write_roboflow(tmp_path / "houses"))
        assert code == 0
        assert "layout coco, for instance segmentation" in out
        assert re.search(r"door +1 +1", out)
        code, out, _ = run("check", tmp_path / "houses", "--task", "semantic")
        assert (code, "layout coco-semantic" in out) == (0, True)
        assert re.search(r"house +16 \(33\.3 %\) +16 \(33\.3 %\)", out)

    def test_problems_end_with_1(self, run: Run, tmp_path: Path) -> None:
        root = write_splits(tmp_path / "cats")
        (root / "val" / "images" / "d.png").write_bytes(b"no image")
        (root / "train" / "labels" / "b.png").unlink()
        code, out, err = run("check", root)
        assert (code, err) == (1, "")
        assert "image without label: 1 file\n" in out
        assert re.search(r"unreadable: 1 file\n.*d\.png: not an image", out)
        assert "no problem found" not in out
        for path in (root / "train" / "labels").iterdir():
            Image.new("L", (8, 6)).save(path)
        write_image(root / "train" / "images" / "a.png", size=SIZE)
        assert "problem: train: no image shows 'cat'" in run("check", root)[1]

    def test_what_is_wrong_between_splits(self, run: Run, tmp_path: Path) -> None:
        root = write_splits(tmp_path / "cats")
        (root / "val" / "classes.json").write_text('["background", "dog"]')
        path = root / "val" / "images" / "d.png"
        path.unlink()
        path.symlink_to(root / "train" / "images" / "b.png")
        code, out, _ = run("check", root)
        assert code == 1
        assert "problem: val has other classes than train: more dog, fewer cat" in out
        assert re.search(r"problem: .*d\.png: in train and in val", out)

    def test_a_split_without_labels(self, run: Run, tmp_path: Path) -> None:
        content = {
            "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
            "categories": [{"id": 1, "name": "x"}],
        }
        root = write_roboflow(tmp_path / "houses")
        write_image(root / "test" / "a.png", size=SIZE)
        (root / "test" / "_annotations.coco.json").write_text(json.dumps(content))
        found = json.loads(run("check", root, "--json")[1])
        assert [(split["name"], split["labelled"]) for split in found["splits"]] == [
            ("test", False),
            ("train", True),
            ("valid", True),
        ]

    @pytest.mark.parametrize(
        ("arguments", "code", "reason"),
        [
            (("nowhere",), 1, "nowhere: no such folder"),
            (("empty",), 1, "empty: no data set found; found nothing in it; expected images/ and labels/ (folder)"),
            (
                ("labelme",),
                1,
                "looks like an export of labelme: pointrend data convert labelme OUT makes a data set of it",
            ),
            (("cats", "--layout", "colours"), 1, "unknown layout 'colours', did you mean 'colors'?"),
            (("cats", "--task", "panoptic"), 2, "--task must be semantic or instance, got 'panoptic'"),
            (("cats", "--out", "x.pdf"), 2, "--out must end in .png, .jpg or .webp, got x.pdf"),
        ],
    )
    def test_mistakes_are_one_line(
        self, run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, reason: str
    ) -> None:
        write_splits(tmp_path / "cats")
        write_labelme(tmp_path / "labelme")
        (tmp_path / "empty").mkdir()
        ended, _, err = run("check", *arguments)
        assert (ended, err.count("\n")) == (code, 1)
        assert err.startswith("pointrend: error: ")
        assert reason in err


class TestConvert:
    def test_says_what_was_written(self, run: Run, tmp_path: Path) -> None:
        box = '<box label="house" xtl="2" ytl="1" xbr="7" ybr="5"/>'
        source = write_cvat(tmp_path / "export", [box, '<points label="door" points="1,1"/>'])
        code, out, err = run("convert", source, tmp_path / "houses", "--val", 0)
        assert code == 0
        assert (
            out == f"{source} (CVAT) -> {tmp_path / 'houses'}: 1 images in train; 3 classes: background, house, door\n"
        )
        assert err.splitlines() == [
            "pointrend: note: 1 of kind points are left out: they cover no area",
            "pointrend: note: 1 rectangles are taken as the outlines of objects",
        ]

    @pytest.mark.parametrize(
        ("arguments", "code", "reason"),
        [
            (("cvat", "out", "--task", "panoptic"), 2, "--task must be semantic or instance"),
            (("cvat", "out", "--val", "1"), 1, "val must be a ratio in 0..1 below 1, got 1"),
            (("cvat", "cvat"), 1, "cvat: exists and is not an empty folder; choose another"),
            (("empty", "out"), 1, "no data set found; found nothing in it"),
            (("broken", "out"), 1, "annotations.xml: cannot be read as XML"),
        ],
    )
    def test_mistakes_are_one_line(
        self, run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, reason: str
    ) -> None:
        write_cvat(tmp_path / "cvat")
        (tmp_path / "empty").mkdir()
        path = write_cvat(tmp_path / "broken") / "annotations.xml"
        path.write_text(path.read_text()[:-9])
        ended, _, err = run("convert", *arguments)
        assert (ended, err.count("\n")) == (code, 1)
        assert err.startswith("pointrend: error: ")
        assert reason in err
        assert not (tmp_path / "out").exists()


def test_the_commands_of_the_page_run(run: Run, tmp_path: Path) -> None:
    for name, write in (
        ("cvat", write_cvat),
        ("label-studio", write_studio),
        ("yolo", write_yolo),
        ("roboflow", write_roboflow),
    ):
        write(tmp_path / f"{name}-export")
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    lines = [shlex.split(line) for line in re.findall(r"^pointrend data (.*)$", page, flags=re.MULTILINE)]
    assert len(lines) == 5
    for arguments in lines:
        code, _, err = run(*arguments)
        assert code == 0, err


def test_the_sheet_shows_labels_in_their_colors(run: Run, tmp_path: Path) -> None:
    """Twelve of many, each class among them, the same at every call."""
    root = tmp_path / "set"
    for index in range(30):
        write_image(root / "images" / f"{index:02}.png", size=(30, 40), value=100)
        labels = np.zeros((30, 40), np.uint8)
        labels[5:25, 10:30] = 2 if index == 17 else 255 if index == 18 else 1
        (root / "labels").mkdir(exist_ok=True)
        Image.fromarray(labels).save(root / "labels" / f"{index:02}.png")
    listed = [
        {"name": "background", "color": [0, 0, 0]},
        {"name": "a", "color": [255, 0, 0]},
        {"name": "b", "color": [0, 0, 255]},
    ]
    (root / "classes.json").write_text(json.dumps(listed))
    assert run("check", root)[1].endswith("data-check.png: 12 samples\n")
    first = (tmp_path / "data-check.png").read_bytes()
    run("check", root, "--out", "again.png")
    assert (tmp_path / "again.png").read_bytes() == first
    pixels = np.asarray(Image.open(tmp_path / "data-check.png").convert("RGB")).reshape(-1, 3)
    colors, counts = np.unique(pixels, axis=0, return_counts=True)
    common = {tuple(color) for color in colors[counts > 20_000].tolist()}
    # The image's grey, white paper, and half of each colour over grey.
    assert common == {(100, 100, 100), (255, 255, 255), (177, 50, 50), (50, 50, 177)}
