"""A data set's faults are all found and said with their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import write_folder, write_image, write_labels
from PIL import Image

from pointrend.data import DatasetError, check_dataset, ensure_sound, find_samples


def found(root: Path) -> set[tuple[str, str]]:
    return {(problem.kind, problem.path.name) for problem in check_dataset(find_samples(root)).problems}


def test_sound(tmp_path: Path) -> None:
    seen = []
    samples = find_samples(write_folder(tmp_path, "abcdef"))
    assert ensure_sound(samples, progress=lambda done, total: seen.append((done, total))).problems == ()
    assert seen == [(done, 6) for done in range(1, 7)]


def test_every_kind(tmp_path: Path) -> None:
    write_folder(tmp_path, "abcdefgh")
    labels, images = tmp_path / "labels", tmp_path / "images"
    (labels / "a.png").unlink()
    (images / "b.png").unlink()
    write_labels(labels / "c.png", size=(8, 6))
    write_labels(labels / "d.png", [0, 1, 2, 77, 255])
    (labels / "e.png").write_bytes(b"")
    (images / "f.png").write_bytes((images / "f.png").read_bytes()[:-30])
    Image.new("RGB", (8, 6)).save(labels / "g.png")
    assert found(tmp_path) == {
        ("image without label", "a.png"),
        ("label without image", "b.png"),
        ("sizes differ", "c.png"),
        ("label value out of range", "d.png"),
        ("unreadable", "e.png"),
        ("unreadable", "f.png"),
        ("unreadable", "g.png"),
    }
    with pytest.raises(DatasetError) as error:
        ensure_sound(find_samples(tmp_path))
    message = str(error.value)
    assert f"{labels / 'c.png'}: labels are 6 x 8, the image c.png is 8 x 6" in message
    assert f"{labels / 'd.png'}: value 2, 77; allowed are 0 to 1 and 255" in message
    assert f"{labels / 'e.png'}: the file is empty" in message
    assert "unreadable: 3 files\n" in message
    assert "image without label: 1 file\n" in message


def test_how_many_more(tmp_path: Path) -> None:
    write_folder(tmp_path, "abcdefgh")
    for stem in "bcdefgh":
        write_labels(tmp_path / "labels" / f"{stem}.png", [9])
    with pytest.raises(DatasetError) as error:
        ensure_sound(find_samples(tmp_path), limit=3)
    lines = str(error.value).splitlines()
    assert lines[0] == "label value out of range: 7 files"
    assert [Path(line.split(": ")[0]).name for line in lines[1:4]] == ["b.png", "c.png", "d.png"]
    assert lines[4:] == ["  and 4 more"]


def test_label_without_image_does_no_harm(tmp_path: Path) -> None:
    write_folder(tmp_path, "ab")
    (tmp_path / "images" / "a.png").unlink()
    assert [problem.path.name for problem in ensure_sound(find_samples(tmp_path)).problems] == ["a.png"]


def test_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    write_folder(tmp_path, "a")
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.zeros((6, 8, 3), np.uint8))
    image.save(tmp_path / "images" / "b.jpg", exif=exif)
    write_labels(tmp_path / "labels" / "b.png", size=(8, 6))
    assert found(tmp_path) == set()
    image.save(tmp_path / "images" / "b.jpg")
    assert found(tmp_path) == {("sizes differ", "b.png")}


def test_jpeg_cut_short_is_found(tmp_path: Path) -> None:
    write_folder(tmp_path, "a")
    path = tmp_path / "images" / "b.jpg"
    write_image(path, size=(200, 300))
    write_labels(tmp_path / "labels" / "b.png", size=(200, 300))
    assert found(tmp_path) == set()
    path.write_bytes(path.read_bytes()[:-200])
    assert found(tmp_path) == {("unreadable", "b.jpg")}
