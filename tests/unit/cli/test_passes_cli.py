"""--scales, --flip and --mode slide of the commands predict and eval."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pointrend.zoo
from pointrend.cli import main
from pointrend.data.images import read_labels
from pointrend.evaluation import evaluate
from pointrend.predict import PredictOptions, Slide, TestAugmentation
from pointrend.zoo import Model

Run = Callable[..., tuple[int, str, str]]
SLIDE = ["--mode", "slide", "--crop", "40,48", "--stride", "24,40"]
WRONG = [
    (["--scales", "1,two"], "--scales must be numbers such as 0.5,1,1.5, got '1,two'"),
    (["--scales", ""], "--scales must be numbers such as 0.5,1,1.5, got ''"),
    (["--scales", "0"], "scales must be 0.1 to 8, got 0.0"),
    (["--scales", "1,1"], "scales must differ from each other, got [1.0, 1.0]"),
    (["--mode", "slode"], "--mode must be whole or slide, got 'slode'"),
    (["--mode", "slide"], "--mode slide needs --crop H,W and --stride H,W, such as --crop 512,512 --stride 384,384"),
    (["--crop", "512,512"], "--crop needs --mode slide"),
    (["--stride", "512,512"], "--stride needs --mode slide"),
    (["--mode", "slide", "--crop", "512", "--stride", "1,1"], "--crop must be H,W such as 512,512, got 1 number"),
    (["--mode", "slide", "--crop", "64,64", "--stride", "a,b"], "--stride must be H,W such as 512,512, got 'a,b'"),
    (
        ["--mode", "slide", "--crop", "64,64", "--stride", "80,64"],
        "stride must be 4 to 64 pixels for a crop of 64, got 80",
    ),
]


@pytest.fixture
def run(small_model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command with a small real model and gives exit code, stdout and stderr."""
    monkeypatch.setattr(pointrend.zoo, "load_model", lambda name, **settings: small_model)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


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


def test_predict_averages_as_the_library(run: Run, split: Path, small_model: Model, tmp_path: Path) -> None:
    photo = split / "images" / "0.png"
    code, _, _ = run("predict", photo, "--out", tmp_path, "--scales", "0.5,1.5", "--flip", *SLIDE)
    assert code == 0
    expected = small_model.predict(photo, scales=(0.5, 1.5), flip=True, slide=Slide((40, 48), (24, 40)))
    assert np.array_equal(read_labels(tmp_path / "0.png"), expected.labels)
    assert not np.array_equal(expected.labels, small_model.predict(photo).labels)


def test_eval_averages_and_says_so(run: Run, split: Path, small_model: Model) -> None:
    code, out, err = run("eval", "small", split, "--scales", "0.5,1.5", "--flip", *SLIDE, "--json")
    assert code == 0, err
    printed = json.loads(out)
    options = PredictOptions(augmentation=TestAugmentation((0.5, 1.5), flip=True), slide=Slide((40, 48), (24, 40)))
    assert printed["rows"] == evaluate(small_model, split, options=options).to_dict()["rows"]
    assert printed["rows"] != evaluate(small_model, split).to_dict()["rows"]
    assert (printed["scales"], printed["flip"], printed["mode"]) == ([0.5, 1.5], True, "slide")
    assert (printed["crop"], printed["stride"]) == ([40, 48], [24, 40])
    _, out, _ = run("eval", "small", split, "--scales", "0.5,1.5", "--flip", *SLIDE)
    assert "scales 0.5, 1.5; flipped; windows of 40x48 every 24x40" in out.replace("\n", " ")


def test_eval_says_what_is_usual(run: Run, split: Path) -> None:
    _, out, _ = run("eval", "small", split, "--json")
    printed = json.loads(out)
    assert (printed["scales"], printed["flip"], printed["mode"]) == ([1.0], False, "whole")
    assert "crop" not in printed
    _, out, _ = run("eval", "small", split)
    assert "scales" not in out


@pytest.mark.parametrize(("arguments", "said"), WRONG)
@pytest.mark.parametrize("command", ["predict", "eval"])
def test_wrong_usage_is_one_line_and_exit_2(
    run: Run, split: Path, tmp_path: Path, command: str, arguments: list[str], said: str
) -> None:
    start = (
        ("predict", split / "images" / "0.png", "--out", tmp_path / "out")
        if command == "predict"
        else ("eval", "m", split)
    )
    code, out, err = run(*start, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--scales", "1,2"], ["--flip"], SLIDE])
def test_explain_has_one_pass(run: Run, split: Path, tmp_path: Path, arguments: list[str]) -> None:
    code, _, err = run("predict", split / "images" / "0.png", "--out", tmp_path / "out", "--explain", *arguments)
    assert code == 2
    assert "--explain draws one rendering of the whole photo: leave out --scales, --flip and --mode" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--scales", "1,2"], ["--flip"], SLIDE])
def test_results_of_others_have_no_passes(run: Run, split: Path, tmp_path: Path, arguments: list[str]) -> None:
    code, _, err = run("eval", tmp_path / "results.json", split, *arguments)
    assert code == 2
    assert ": for models, and " in err
