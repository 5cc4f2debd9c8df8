"""What person-lite0 is trained on and measured with: composites, labelled where persons were pasted, and outlines."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from benchmarks.person_outlines import outline_distances, scores
from benchmarks.persons import counted, masks_in, rows

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def person_data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("person_data", ROOT / "scripts" / "person_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["person_data"] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    return module


def box(height: int, width: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


@pytest.fixture
def data(tmp_path: Path, person_data: ModuleType) -> Path:
    """Blue people on grey; COCO's photographs are green, with a blue person of 20x40, a crowd, and a red thing."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        person = box(120, 80, 10, 20, 110, 60)
        pixels = np.full((120, 80, 3), 128) + random.integers(-5, 5, (120, 80, 3))
        pixels[person] = (0, 0, 250)
        save(tmp_path / "people" / split / "images" / "a.png", pixels)
        save(tmp_path / "people" / split / "labels" / "a.png", person * 7)
        images, annotations = [], []
        for index in range(2):
            images.append({"id": index, "file_name": f"{split}{index}.png", "height": 100, "width": 100})
            photo = np.full((100, 100, 3), (0, 200, 0))
            photo[60:90, 60:90] = (250, 0, 0)
            annotations.append(polygon(index, 2, (60, 60, 90, 90)))
            if index:
                photo[20:60, 10:30] = (0, 0, 250)
                annotations.append(polygon(index, 1, (10, 20, 30, 60)))
                crowd = {"counts": [90 * 100, 1000], "size": [100, 100]}  # the last ten columns
                annotations.append(polygon(index, 1, (90, 0, 100, 100)) | {"iscrowd": 1, "segmentation": crowd})
            save(tmp_path / "coco" / "images" / f"{split}{index}.png", photo)
        content = {"images": images, "annotations": annotations}
        content["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
        (tmp_path / "coco" / "annotations").mkdir(exist_ok=True)
        (tmp_path / "coco" / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    disc = np.dstack([np.full((40, 40, 3), (250, 0, 0)), box(40, 40, 5, 5, 35, 35) * 255])
    for path in ("emoji3d/1f332.webp", "photo_pd/ball.png", "people_synth/dog.webp"):
        save(tmp_path / "cutouts" / path, disc)
    for name in person_data.PEOPLE_SYNTH:
        save(tmp_path / "cutouts" / "people_synth" / f"{name}.webp", disc[..., [2, 1, 0, 3]])
    return tmp_path


def polygon(image: int, category: int, extent: tuple[int, int, int, int]) -> dict[str, object]:
    left, top, right, bottom = extent
    corners = [left, top, right, top, right, bottom, left, bottom]
    area = (right - left) * (bottom - top)
    found: dict[str, object] = {"image_id": image, "category_id": category, "iscrowd": 0, "area": area}
    return found | {"segmentation": [[float(value) for value in corners]]}


def test_the_data_set_is_written(
    data: Path, tmp_path: Path, person_data: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["", str(data), str(out), "--composites", "3", "--people", "2"])
    person_data.main()
    names = {path.stem for path in (out / "train" / "labels").iterdir()}
    assert names == (
        {"a", "a_1", *(f"composite_{index:05}" for index in range(3)), *(f"coco_{0:012}_{copy}" for copy in range(5))}
        | {f"coco_{1:012}_{copy}" for copy in range(14)}  # it has a large person
    )
    assert {path.stem for path in (out / "train" / "images").iterdir()} == names
    people = np.asarray(Image.open(out / "val" / "labels" / "a.png"))
    np.testing.assert_array_equal(people, box(120, 80, 10, 20, 110, 60))
    (measured,) = (out / "coco" / "labels").iterdir()  # the other has no person
    expected = box(100, 100, 20, 10, 60, 30).astype(np.uint8)
    expected[:, 90:] = 255
    np.testing.assert_array_equal(np.asarray(Image.open(measured)), expected)
    learned = np.asarray(Image.open(out / "train" / "labels" / f"coco_{1:012}_0.png"))
    np.testing.assert_array_equal(learned[40, 5:35], [0] * 3 + [255] * 4 + [1] * 16 + [255] * 4 + [0] * 3)


def test_what_is_missing_is_said(tmp_path: Path, person_data: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="expected the folders people, coco and cutouts, but people, coco, cutouts is"):
        person_data.main()
    for name in ("people", "coco", "cutouts"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), str(tmp_path)])
    with pytest.raises(SystemExit, match="exists and is not empty; name a new folder"):
        person_data.main()
    with pytest.raises(SystemExit, match="expected images/ and labels/ with files"):
        next(rows(tmp_path, {"none": masks_in(tmp_path)}))


def test_labels_of_composites_are_where_persons_are(data: Path, person_data: ModuleType) -> None:
    """Persons are blue, or recoloured; things are red and the ground is green, and neither is ever labelled."""
    maker = person_data.Composites(data, person_data.Coco.read(data / "coco", "train"))
    seen = []
    for index in range(12):
        image, labels = maker.draw(np.random.default_rng(index))
        assert image.shape[:2] == labels.shape
        assert set(np.unique(labels)) <= {0, 1, 255}
        again, _ = maker.draw(np.random.default_rng(index))
        np.testing.assert_array_equal(again, image)
        person, rest = image[labels == 1].astype(float), image[labels == 0].astype(float)
        if len(person) and len(rest):
            seen.append(np.mean(person[:, 2] > person[:, 1]) - np.mean(rest[:, 2] > rest[:, 1]))
    assert np.mean(seen) > 0.5


def test_a_pasted_cut_covers_what_its_alpha_says(person_data: ModuleType) -> None:
    cut = person_data.Cut(np.full((50, 30, 3), 255.0), np.ones((50, 30)), np.zeros((50, 30), np.uint8))
    for seed in range(10):
        canvas, alpha = person_data.pasted(np.zeros((80, 90, 3)), cut, np.random.default_rng(seed), large=True)
        assert canvas.shape == (80, 90, 3)
        assert alpha.max() == 1
        assert canvas[alpha == 1].min() > 50
        assert canvas[alpha == 0].max() == 0


def test_outlines_are_scored_near_the_truth_alone() -> None:
    truth = box(60, 60, 20, 20, 60, 60)
    moved = box(60, 60, 23, 20, 60, 60)  # three pixels at the top, and the left side is right
    assert set(outline_distances(truth, truth)) == {0.5}
    found = scores({"moved": moved, "far": moved | box(60, 60, 0, 0, 5, 5)}, truth)
    of_moved = outline_distances(moved, truth)
    assert found["moved"]["within 1 px"] == pytest.approx(100 * np.mean(of_moved <= 1))
    assert 45 < found["moved"]["within 2 px"] < 55
    assert found["far"]["within 2 px"] == pytest.approx(found["moved"]["within 2 px"])


def test_masks_of_a_folder_are_scored_over_photographs_and_on_average(tmp_path: Path) -> None:
    truth = box(40, 40, 0, 0, 40, 20).astype(np.uint8)
    truth[:, 30:] = 255
    for name, found in (("a", box(20, 20, 0, 0, 20, 10)), ("b", box(20, 20, 0, 0, 20, 20))):  # right; everything
        save(tmp_path / "images" / f"{name}.png", np.zeros((40, 40, 3)))
        save(tmp_path / "labels" / f"{name}.png", truth)
        save(tmp_path / "soft" / f"{name}.png", found * 255)
    assert counted(box(40, 40, 0, 0, 40, 40), truth)[:2] == (800, 1200)
    (row,) = rows(tmp_path, {"soft": masks_in(tmp_path / "soft")})
    assert row.startswith(f"soft: IoU {100 * 1600 / 2000:.1f}, mean {(100 + 100 * 2 / 3) / 2:.1f}, Boundary IoU ")
