from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointrend.data.classes import ClassInfo
from pointrend.data.images import read_labels
from pointrend.results import SemanticResult, is_ours
from pointrend.results.files import png_bytes

CLASSES = (
    ClassInfo("background", (0, 0, 0)),
    ClassInfo("cat", (250, 10, 20)),
    ClassInfo("Füße", (1, 2, 3)),
    ClassInfo("dog", (9, 8, 7)),
)


def make_result(path: Path | None = None, size: tuple[int, int] = (20, 30)) -> SemanticResult:
    labels = np.zeros(size, np.uint8)
    labels[:, size[1] // 2 :] = 1
    labels[:1, :1] = 2
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return SemanticResult(labels=labels, classes=CLASSES, image=image, path=path)


def test_label_image_keeps_indices_and_shows_colours() -> None:
    result = make_result()
    picture = result.label_image()
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), result.labels)
    colors = np.array([c.color for c in CLASSES], np.uint8)
    assert np.array_equal(np.asarray(picture.convert("RGB")), colors[result.labels])


def test_more_than_256_classes_are_16_bit_grey(tmp_path: Path) -> None:
    classes = tuple(ClassInfo(f"class {i}", (i % 256, i // 256, 0)) for i in range(300))
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    result = SemanticResult(labels=labels, classes=classes, image=np.zeros((15, 20, 3), np.uint8))
    path = result.save(tmp_path)[0]
    with Image.open(path) as image:
        assert image.mode == "I;16"
        assert np.array_equal(np.asarray(image), labels)


def test_summary_counts_what_occurs_largest_first() -> None:
    summary = make_result(Path("a/b.jpg")).summary()
    assert summary == json.loads(json.dumps(summary))
    assert summary["image"] == str(Path("a/b.jpg"))
    assert (summary["height"], summary["width"]) == (20, 30)
    assert summary["classes"] == [
        {"index": 1, "name": "cat", "color": [250, 10, 20], "pixels": 300, "ratio": 0.5},
        {"index": 0, "name": "background", "color": [0, 0, 0], "pixels": 299, "ratio": 299 / 600},
        {"index": 2, "name": "Füße", "color": [1, 2, 3], "pixels": 1, "ratio": 1 / 600},
    ]
    assert make_result().summary()["image"] is None


def test_save_writes_three_files_that_can_be_read(tmp_path: Path) -> None:
    result = make_result(Path("somewhere/photo.jpeg"))
    paths = result.save(tmp_path / "new" / "out")
    assert [p.name for p in paths] == ["photo.png", "photo_overlay.png", "photo.json"]
    assert sorted(p.name for p in (tmp_path / "new" / "out").iterdir()) == sorted(p.name for p in paths)
    assert np.array_equal(read_labels(paths[0]), result.labels)
    with Image.open(paths[1]) as overlay:
        assert np.array_equal(np.asarray(overlay), np.asarray(result.overlay()))
    written = json.loads(paths[2].read_text(encoding="utf-8"))
    assert written == {"software": "pointrend", **result.summary()}
    assert all(is_ours(p) for p in paths)


def test_a_name_that_is_not_utf_8_can_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "in" / os.fsdecode(b"caf\xe9.jpg")
    result = make_result(path)
    paths = result.save(tmp_path, stem="cafe")
    assert json.loads(paths[2].read_bytes()) == {"software": "pointrend", **result.summary()}
    assert "Füße" in paths[2].read_text(encoding="utf-8")
    assert is_ours(paths[2])


def test_names_can_be_given(tmp_path: Path) -> None:
    assert make_result().save(str(tmp_path))[0] == tmp_path / "image.png"
    assert make_result().save(tmp_path, stem="a.b")[0] == tmp_path / "a.b.png"


@pytest.mark.parametrize("stem", ["", "a/b", "../a", "."])
def test_a_stem_is_a_plain_name(tmp_path: Path, stem: str) -> None:
    with pytest.raises(ValueError, match="stem must be a file name"):
        make_result().save(tmp_path, stem=stem)
    assert not list(tmp_path.iterdir())


def test_the_photograph_is_never_replaced(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(make_result().image).save(photo)
    before = photo.read_bytes()
    with pytest.raises(ValueError, match="would replace the image"):
        make_result(tmp_path / "." / "photo.png").save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]
    assert photo.read_bytes() == before


def test_a_failure_leaves_no_part_and_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = make_result()
    labels = result.save(tmp_path)[0]
    before = labels.read_bytes()

    write_bytes = Path.write_bytes

    def fail(self: Path, content: bytes) -> int:
        write_bytes(self, content[:9])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        result.save(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        result.save(tmp_path, stem="other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.json", "image.png", "image_overlay.png"]
    assert labels.read_bytes() == before


def test_pictures_are_whole_and_say_whose_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    ids = np.arange(37 * 53, dtype=np.uint16).reshape(37, 53)
    for name, picture in (("photo", Image.fromarray(pixels)), ("ids", Image.fromarray(ids))):
        (tmp_path / f"{name}.png").write_bytes(png_bytes(picture))
        with Image.open(tmp_path / f"{name}.png") as image:
            image.load()  # checks the sums of all parts
            assert image.info["Software"] == "pointrend"
            assert np.array_equal(np.asarray(image), np.asarray(picture))
        assert is_ours(tmp_path / f"{name}.png")


def test_files_of_others_are_not_ours(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text('{"software": "other"}')
    (tmp_path / "list.json").write_text('["pointrend"]')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    for path in tmp_path.iterdir():
        assert not is_ours(path)
    assert not is_ours(tmp_path / "missing.png")


def test_a_large_file_is_looked_at_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_result().save(tmp_path)[0]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # Pillow warns of this file's 600
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert is_ours(path)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1)])
def test_the_smallest_images_can_be_saved(tmp_path: Path, size: tuple[int, int]) -> None:
    paths = make_result(size=size).save(tmp_path)
    with Image.open(paths[0]) as labels:
        assert labels.size == (size[1], size[0])
