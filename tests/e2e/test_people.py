"""The models of people in the package, on photographs they were not trained on and on some that packages ship."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage
import skimage.data
from PIL import Image

from pointrend import Model, list_models, load_model
from pointrend.cli import main
from pointrend.data import find_samples
from pointrend.evaluation import evaluate

ASTRONAUT = Path(skimage.__file__).parent / "data" / "astronaut.png"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("people-lite0")


@pytest.fixture(scope="module")
def person() -> Model:
    return load_model("person-lite0")


@pytest.mark.parametrize("name", ["people-lite0", "person-lite0"])
def test_they_are_listed_with_licence_and_scores(name: str) -> None:
    entry = next(entry for entry in list_models() if entry.name == name)
    assert entry.size_bytes <= 10e6
    assert entry.licence
    assert entry.scores["miou"] > 60
    assert entry.scores["boundary_iou"] > entry.scores["coarse_boundary_iou"]


def test_a_person_is_found_among_nothing_else(person: Model) -> None:
    result = person.predict(ASTRONAUT)
    assert [c.name for c in result.classes] == ["background", "person"]
    assert result.labels[120, 225] == result.labels[300, 200] == 1  # the forehead, the suit
    assert result.labels[20, 20] == result.labels[200, 480] == 0  # a wall, a flag
    for name in ("chelsea", "coffee", "rocket"):  # a cat, a cup, a rocket
        photo = getattr(skimage.data, name)()
        assert person.predict(photo).labels.mean() < 0.02, name


def test_persons_of_photographs_with_labels(person: Model, test_data: Path) -> None:
    """On the first 10 photographs of val; the card has the numbers of all."""
    shared, either = 0, 0
    for path in sorted((test_data / "people" / "val" / "images").iterdir())[:10]:
        truth = np.asarray(Image.open(path.parents[1] / "labels" / f"{path.stem}.png")) > 0
        found = person.predict(path).labels == 1
        shared, either = shared + int((found & truth).sum()), either + int((found | truth).sum())
    assert shared / either > 0.9


def test_rendering_sharpens_real_boundaries(model: Model, test_data: Path) -> None:
    """On the first 12 photographs of val; the card has the numbers of all."""
    samples = find_samples(test_data / "people" / "val", task="semantic", layout="people")
    rows = evaluate(model, samples, limit=12).rows
    assert rows["pointrend"]["miou"] > 50
    assert rows["pointrend"]["miou"] > rows["coarse"]["miou"]
    assert rows["pointrend"]["boundary_iou"] > rows["coarse"]["boundary_iou"] + 1.5


def test_photograph_of_a_person(model: Model) -> None:
    result = model.predict(ASTRONAUT)
    assert result.labels.shape == (512, 512)
    names = [c.name for c in result.classes]
    assert names[result.labels[120, 225]] == "skin"  # the forehead
    assert names[result.labels[20, 20]] == "background"
    shares = np.bincount(result.labels.ravel(), minlength=len(names)) / result.labels.size
    assert 0.2 < shares[names.index("background")] < 0.8


@pytest.mark.parametrize("size", [(192, 192), (2048, 2048)])
def test_thumbnail_and_large_photograph_agree(model: Model, size: tuple[int, int]) -> None:
    """The network sees both at its own size, so the labels are alike, as far as a thumbnail still shows things."""
    photo = Image.open(ASTRONAUT).convert("RGB")
    whole = model.predict(photo).labels
    other = model.predict(photo.resize(size, Image.Resampling.BICUBIC)).labels
    assert other.shape == (size[1], size[0])
    back = np.array(Image.fromarray(other).resize(whole.shape[::-1], Image.Resampling.NEAREST))
    assert (back == whole).mean() > (0.8 if size[0] < 512 else 0.97)


def test_the_commands_of_the_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(ASTRONAUT), "--out", str(tmp_path), "--explain", "--json"])
    assert ended.value.code == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed[0]["photo"] == str(ASTRONAUT)
    assert {path.name for path in tmp_path.iterdir()} == {
        "astronaut.png",
        "astronaut.json",
        "astronaut_overlay.png",
        "astronaut_explain.png",
    }
