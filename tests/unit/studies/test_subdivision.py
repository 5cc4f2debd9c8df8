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
from pointrend.errors import PointRendError
from pointrend.evaluation import evaluate
from pointrend.predict import PredictOptions
from pointrend.studies import Spread, subdivision_study
from pointrend.zoo import Model


@pytest.fixture
def model(color_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> Model:
    """Labels pixels by their brightest channel, exactly after rendering; `load_model` returns it."""
    made = color_model(num_points=64)
    monkeypatch.setattr(pointrend.zoo, "load_model", lambda name, **settings: made)
    return made


@pytest.fixture
def split(tmp_path: Path, color_image: Callable[..., np.ndarray]) -> Path:
    root = tmp_path / "val"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for index, (height, width) in enumerate(((50, 70), (64, 48))):
        pixels = color_image(height, width)
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        Image.fromarray(pixels.argmax(axis=2).astype(np.uint8)).save(root / "labels" / f"{index}.png")
    (root / "classes.json").write_text(json.dumps(["background", "green", "blue"]))
    return root


def test_every_cell_is_the_evaluation_with_its_options(model: Model, split: Path) -> None:
    samples = find_samples(split, task="semantic")
    miou, boundary = subdivision_study(model, samples, steps=(0, 1, 2), points=(16, 1000))
    assert [row[0] for row in miou.rows] == ["input x 1/4", "input x 1/2", "input x 1"]
    assert miou.columns == ("output resolution", "16 points", "1,000 points")
    for table, number in ((miou, "miou"), (boundary, "boundary_iou")):
        for steps, row in enumerate(table.rows):
            for points, cell in zip((16, 1000), row[1:], strict=True):
                rows = evaluate(model, split, options=PredictOptions(steps=steps, points=points)).rows
                assert isinstance(cell, Spread)
                assert cell.values == (rows["pointrend"][number],)
    exact, coarse = miou.rows[2][2], miou.rows[0][2]
    assert isinstance(exact, Spread)
    assert isinstance(coarse, Spread)
    assert exact.mean > coarse.mean  # the network is exact at points


def test_the_command(model: Model, split: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["study", "subdivision", "colors", str(split), "--limit", "1", "--json"])
    assert ended.value.code == 0
    tables = json.loads(capsys.readouterr().out)
    assert [table["title"] for table in tables] == ["mIoU, 1 images", "Boundary IoU, 1 images"]
    assert tables[0]["columns"] == ["output resolution", "4 points", "16 points", "64 points", "256 points"]
    assert len(tables[0]["rows"]) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "1,x"], "--steps must be whole numbers with commas between them, got '1,x'"),
        (["--points", "0"], "points must be 1 to 100000000, got 0"),
        (["--steps", "99"], "steps must be 0 to 8, got 99"),
    ],
)
def test_wrong_numbers_are_one_line(
    model: Model, split: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["study", "subdivision", "colors", str(split), *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_instances_are_named_by_their_masks_side() -> None:
    predictor = pointrend.load_model("nuclei-lite0").predictor()
    assert [predictor.resolution(steps) for steps in (0, 1, 3)] == ["28x28", "56x56", "224x224"]
    assert isinstance(predictor, object)
    with pytest.raises(PointRendError, match="steps must be 0 to 6"):
        pointrend.load_model("nuclei-lite0").predictor(PredictOptions(steps=7))
