"""`pointrend predict` on files of instruments, on odd names, and twice into one folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pointrend.zoo
from pointrend.cli import main
from pointrend.cli.predict import scaling_of
from pointrend.zoo import Model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def predict(
    color_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.setattr(pointrend.zoo, "load_model", lambda name, **settings: color_model())

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["predict", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def photo(path: Path, color: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), color).save(path)
    return path


def stack(path: Path) -> Path:
    pages = [Image.new("RGB", (40, 30), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path


def labels_in(path: Path) -> list[int]:
    values: list[int] = np.unique(np.asarray(Image.open(path))).tolist()
    return values


def test_the_first_page_is_said_and_others_can_be_had(predict: Run, tmp_path: Path) -> None:
    path, out = stack(tmp_path / "z.tif"), tmp_path / "out"
    code, _, err = predict(path, "--out", out)
    assert code == 0
    said = "has 3 pages, of which only the first was read; choose with --page N or all (page=N)"
    assert err == f"pointrend: note: {path}: {said}\n"
    assert json.loads((out / "z.json").read_text())["notes"][0].startswith("has 3 pages")
    code, _, err = predict(path, "--out", out, "--page", "3")
    assert (code, err, labels_in(out / "z.png")) == (0, "", [2])
    code, out_text, _ = predict(path, "--out", out, "--page", "all", "--json")
    assert code == 0
    assert [labels_in(out / f"z_p{page:03d}.png") for page in (1, 2, 3)] == [[0], [1], [2]]
    assert len(json.loads(out_text)) == 3
    code, _, err = predict(path, "--out", out, "--page", "4")
    assert (code, err.splitlines()) == (1, [f"pointrend: error: {path}: has 3 pages, page 4 was asked for"])


def test_a_channel_and_a_range(predict: Run, tmp_path: Path) -> None:
    path, out = photo(tmp_path / "a.png", (10, 200, 30)), tmp_path / "out"
    predict(path, "--out", out)
    assert labels_in(out / "a.png") == [1]
    predict(path, "--out", out, "--channel", "2")
    assert labels_in(out / "a.png") == [0]  # grey: all channels are equal, the first class wins
    code, _, err = predict(path, "--out", out, "--range", "0,20")
    assert code == 0
    assert err == f"pointrend: note: {path}: scaled from 0 .. 20\n"
    assert json.loads((out / "a.json").read_text())["notes"] == ["scaled from 0 .. 20"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--page", "x"], "--page must be a number or all, got 'x'"),
        (["--page", "0"], "page is counted from 1, got 0"),
        (["--range", "dark"], "--range must be auto, full or LO,HI, got 'dark'"),
        (["--range", "9,3"], "from a smaller to a larger value"),
        (["--range", "a,b"], "--range must be auto, full or LO,HI, got 'a'"),
        (["--max-detections", "5"], "--max-detections is for instance models, colors labels pixels"),
    ],
)
def test_wrong_options_are_one_line(predict: Run, tmp_path: Path, options: list[str], said: str) -> None:
    code, _, err = predict(photo(tmp_path / "a.png", (0, 0, 0)), "--out", tmp_path / "out", *options)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_ranges_as_text() -> None:
    assert scaling_of("auto") == "auto"
    assert scaling_of("100 4095") == scaling_of("100,4095.0") == (100.0, 4095.0)


def test_results_of_another_photo_are_not_replaced(predict: Run, tmp_path: Path) -> None:
    first, second = photo(tmp_path / "a" / "x.png", (255, 0, 0)), photo(tmp_path / "b" / "x.png", (0, 255, 0))
    out = tmp_path / "out"
    assert predict(first, "--out", out)[0] == 0
    code, _, err = predict(second, "--out", out)
    assert code == 1
    assert f"{second}: the result would replace {out / 'x.json'}, which is of {first}" in err
    assert labels_in(out / "x.png") == [0]
    assert predict(first, "--out", out)[0] == 0  # the same photo again
    assert predict(second, "--out", out, "--overwrite")[0] == 0
    assert labels_in(out / "x.png") == [1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes in folders")
def test_what_is_no_photo_is_one_line_each_and_the_rest_is_done(predict: Run, tmp_path: Path) -> None:
    good = photo(tmp_path / "good.png", (0, 255, 0))
    os.mkfifo(tmp_path / "pipe.png")
    for name, target in (("a.png", "b.png"), ("b.png", "a.png")):
        (tmp_path / name).symlink_to(tmp_path / target)
    (tmp_path / "bad.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(range(200)))
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    bad = [tmp_path / name for name in ("pipe.png", "a.png", "bad.avif", "phone.heic")]
    code, out, err = predict(*bad, "https://example.org/a.png", good, "--out", tmp_path / "out")
    assert code == 1
    assert "1 of 6 done" in out
    assert len(err.splitlines()) == 5
    for said in ("is not a regular file", "a.png", "bad.avif: ", "pillow-heif", "URLs are not read; download it first"):
        assert said in err


@pytest.mark.parametrize("length", [230, 243, 251])
def test_long_names(predict: Run, tmp_path: Path, length: int) -> None:
    path = photo(tmp_path / f"{'n' * (length - 4)}.png", (0, 255, 0))
    code, _, err = predict(path, "--out", tmp_path / "out")
    if length <= 243:  # with "_overlay" the name still fits
        assert code == 0
        assert len(list((tmp_path / "out").iterdir())) == 3
    else:
        assert code == 1
        assert "File name too long" in err
        assert len(err.splitlines()) == 1
