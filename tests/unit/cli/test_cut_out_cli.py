"""`pointrend predict --cutout`: files, and what is said when there is nothing to cut out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointrend.data.images import read_labels

Run = Callable[..., tuple[int, str, str]]


def test_cut_outs_are_written_beside_the_rest(
    predict: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointrend.cutting.refiner", lambda _: None)  # the mask as it is
    out = tmp_path / "out"
    code, said, errors = predict(photo, "--out", out, "--cutout", "blue, Background", "--json")
    assert (code, errors) == (0, "")
    labels = read_labels(out / "photo.png")
    with Image.open(out / "photo_cutout.png") as image:
        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image)[..., 3] > 0, (labels == 2) | (labels == 0))
    assert str(out / "photo_cutout.png") in json.loads(said)[0]["files"]


def test_cut_outs_of_what_is_not_there(predict: Run, photo: Path, tmp_path: Path) -> None:
    code, _, errors = predict(photo, "--out", tmp_path / "out", "--cutout", "cow")
    assert code == 2
    assert errors == "pointrend: error: no class is called 'cow'; expected all, or some of background, green, blue\n"
    code, _, errors = predict(photo, "--out", tmp_path / "out", "--specks", "9")
    assert code == 2
    assert errors == "pointrend: error: --specks is for cut-outs: add --cutout\n"
