"""The tutorials' commands and Python, in the order of the page, in an empty folder."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from publishing import local_server
from torch import Tensor

import pointrend
from pointrend.cli import main
from pointrend.models import SemanticPointRend
from pointrend.zoo.manifest import PUBLISHED
from pointrend.zoo.modelfile import network_of

DOCS = Path(__file__).parents[2] / "docs"
CHECKPOINT = "pointrend_r50_512x1024_80k_cityscapes_20200711_015821-bb1ff523.pth"
SMALL = ["--size", "64", "--points", "300"]
"""The published models' own sizes take a minute on a CPU."""


def steps(page: str) -> list[tuple[str, str]]:
    """The commands and Python of a page, each with its language."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = []
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        lines = re.sub(r"\\\n\s*", "", block).splitlines() if language == "sh" else [block]
        found += [(language, line) for line in lines]
    return found


def follow(page: str, *, extra: list[str] | None = None) -> None:
    """Do what a page says; `extra` arguments are added to each prediction."""
    for language, text in steps(page):
        if language == "python":
            exec(compile(text, page, "exec"), {"__name__": "__main__"})
            continue
        program, *arguments = shlex.split(text, comments=True)
        assert program == "pointrend"
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *((extra or []) if arguments[0] == "predict" else [])])
        assert ended.value.code == 0, text


def astronaut() -> Image.Image:
    data = pytest.importorskip("skimage.data", reason="the extra demo is not installed")
    return Image.fromarray(data.astronaut())


def test_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    astronaut().save("photo.jpg", quality=95)
    follow("photo.md")
    named = re.findall(r"^(out/\S+)", (DOCS / "photo.md").read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted(str(path) for path in Path("out").iterdir())
    labels = np.asarray(Image.open("out/photo.png"))
    assert labels[300, 180] == 1  # the suit
    assert labels[60, 480] == 0  # the space shuttle
    assert json.loads(Path("out/photo.json").read_text())["certainty"] > 0.8
    alpha = np.asarray(Image.open("cut/photo_cutout.png"))[..., 3]
    assert (alpha[300, 220], alpha[60, 480]) == (255, 0)
    assert np.mean((alpha > 127) == (labels == 1)) > 0.9
    assert (alpha[400, 260], alpha[495, 120]) == (255, 255)  # what is found of her from afar alone
    blue = np.asarray(Image.open("before_blue.jpg"), np.int32)
    assert np.abs(blue[60, 480] - (70, 130, 180)).max() < 8  # steelblue
    assert Image.open("explained/photo_explain.png").width > 1000
    assert np.mean(np.asarray(Image.open("faster/photo.png")) == labels) > 0.99


def test_published(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    as_mmsegmentation: Callable[[SemanticPointRend], dict[str, Tensor]],
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (100, 160, 3), np.uint8)).save("street.jpg")
    torch.manual_seed(0)
    state = as_mmsegmentation(network_of(PUBLISHED["mmseg-r50-cityscapes"].spec))
    torch.save({"state_dict": state}, CHECKPOINT)
    monkeypatch.setattr("pointrend.Model.predict", small(pointrend.Model.predict))
    for publish in local_server(tmp_path, monkeypatch):
        publish("mmseg-r50-cityscapes", lambda path: path.write_bytes(Path(CHECKPOINT).read_bytes()))
        follow("published.md", extra=SMALL)
    expected = np.asarray(Image.open("named/street.png"))
    assert len(np.unique(expected)) > 1
    for folder in ("file", "converted", "python"):
        np.testing.assert_array_equal(np.asarray(Image.open(f"{folder}/street.png")), expected)


def small(predict: Callable[..., object]) -> Callable[..., object]:
    return lambda model, image: predict(model, image, size=64, points=300)


def test_refine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's first command and its Python, on the astronaut with a mask of blocks."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "masks"):
        Path(folder).mkdir()
    astronaut().crop((0, 0, 400, 400)).save("photo.jpg", quality=95)
    blocks = np.zeros((25, 25), np.uint8)
    blocks[3:10, 10:17] = 255  # about the face
    Image.fromarray(blocks).resize((400, 400), Image.Resampling.NEAREST).save("mask.png")
    Path("photos/a.jpg").write_bytes(Path("photo.jpg").read_bytes())
    Path("masks/a.png").write_bytes(Path("mask.png").read_bytes())
    (_, command), (_, code), *_ = steps("refine.md")
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command)[1:])
    assert ended.value.code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "a_cutout.png", "a_overlay.png"]
    names: dict[str, object] = {}
    exec(compile(code, "refine.md", "exec"), names)
    refined = np.asarray(Image.open("out/a.png"))
    np.testing.assert_array_equal(np.asarray(names["result"].labels), refined > 127)  # type: ignore[attr-defined]
    assert 0.002 < np.mean((refined > 127) != (np.asarray(Image.open("mask.png")) > 127)) < 0.1
