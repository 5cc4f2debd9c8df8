"""Scoring a semantic model on a split: its rows, the first images alone, and the width of the boundary bands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pointrend.zoo
from pointrend.cli import main
from pointrend.data import find_samples
from pointrend.data.classes import ClassInfo
from pointrend.errors import PointRendError
from pointrend.evaluation import check_class_names, evaluate
from pointrend.zoo import Model

NAMES = ("background", "green", "blue")


@pytest.fixture
def model(color_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> Model:
    """Labels pixels by their brightest channel, exactly after rendering; `load_model` returns it."""
    made = color_model()
    monkeypatch.setattr(pointrend.zoo, "load_model", lambda name, **settings: made)
    return made


@pytest.fixture
def split(tmp_path: Path, color_image: Callable[..., np.ndarray]) -> Path:
    """Three images: the labels of the first are right, those of the others belong to another class."""
    root = tmp_path / "val"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for index, (height, width) in enumerate(((50, 70), (64, 48), (40, 40))):
        pixels = color_image(height, width)
        labels = (pixels.argmax(axis=2) + (index > 0)) % 3
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        Image.fromarray(labels.astype(np.uint8)).save(root / "labels" / f"{index}.png")
    (root / "classes.json").write_text(json.dumps(NAMES))
    return root


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, dict[str, float]]:
    """The rows that `pointrend eval --json` prints."""
    with pytest.raises(SystemExit) as ended:
        main(["eval", "colors", *map(str, arguments), "--json"])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    rows: dict[str, dict[str, float]] = json.loads(printed.out)["rows"]
    return rows


def test_rows_are_of_the_coarse_and_of_the_rendered_labels(model: Model, split: Path) -> None:
    rows = evaluate(model, split, limit=1).rows
    assert list(rows) == ["coarse", "pointrend"]
    for name in ("miou", "boundary_iou", "boundary_f", *(f"iou/{one}" for one in NAMES)):
        assert rows["pointrend"][name] == 100.0
    assert 50 < rows["coarse"]["miou"] < 99.5
    assert rows["coarse"]["boundary_iou"] < rows["coarse"]["miou"]
    # Numbers that were computed by hand from the labels of each row.
    predictor = model.scoring_predictor()
    pixels = np.asarray(Image.open(split / "images" / "0.png"))
    truth = np.asarray(Image.open(split / "labels" / "0.png"))
    for row, result in predictor.compare(pixels).items():
        for index, name in enumerate(NAMES):
            found, true = result.labels == index, truth == index
            assert rows[row][f"iou/{name}"] == pytest.approx(100 * (found & true).sum() / (found | true).sum())


def test_a_limit_takes_the_first_images_alone(model: Model, split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[int, int]] = []
    first = evaluate(model, split, limit=1, progress=lambda done, total: calls.append((done, total)))
    assert (first.num_images, calls) == (1, [(1, 1)])
    assert first.rows["pointrend"]["miou"] == 100.0
    whole = evaluate(model, split)
    assert whole.num_images == 3
    assert whole.rows["pointrend"]["miou"] < 60
    assert evaluate(model, split, limit=50).num_images == 3
    assert command(capsys, split, "--limit", 1) == first.to_dict()["rows"]
    assert command(capsys, split) == whole.to_dict()["rows"]


def test_the_width_of_the_bands_reaches_the_metric(
    model: Model, split: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {ratio: command(capsys, split, "--limit", 1, "--boundary-share", ratio) for ratio in (0.005, 0.05)}
    assert rows[0.005] == command(capsys, split, "--limit", 1)  # the default
    narrow, wide = rows[0.005]["coarse"], rows[0.05]["coarse"]
    assert wide["boundary_iou"] > narrow["boundary_iou"] + 5  # a wide band forgives an error of a pixel
    assert wide["miou"] == narrow["miou"]
    assert evaluate(model, split, limit=1, boundary_ratio=0.05).rows["coarse"] == wide


def test_a_folder_is_checked_and_a_split_taken_as_it_is(model: Model, split: Path) -> None:
    samples = find_samples(split, task="semantic")
    assert evaluate(model, samples, limit=1).rows == evaluate(model, split, limit=1).rows
    (split / "images" / "2.png").write_bytes(b"no image")
    with pytest.raises(PointRendError, match=r"2\.png"):
        evaluate(model, split, limit=1)


def test_what_is_not_a_number_is_null_in_json(color_model: Callable[..., Model], split: Path) -> None:
    classes = (*(ClassInfo(name, (index, 0, 0)) for index, name in enumerate((*NAMES, "never"))),)
    (split / "classes.json").write_text(json.dumps([info.name for info in classes]))
    result = evaluate(color_model(classes=classes), split, limit=1)
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (content["unit"], content["images"]) == ("percent", 1)
    assert content["rows"]["pointrend"]["iou/never"] is None
    assert content["rows"]["pointrend"]["iou/blue"] == 100.0


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (("background", "green"), "the model has 3 classes, the data 2"),
        (("background", "blue", "green"), "class 1 is 'green' in the model, but 'blue' in the data"),
    ],
)
def test_classes_must_be_the_models(found: tuple[str, ...], said: str) -> None:
    check_class_names(NAMES, NAMES)
    with pytest.raises(PointRendError) as error:
        check_class_names(NAMES, found)
    assert str(error.value) == said
