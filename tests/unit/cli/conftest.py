"""The command in this process, with a model whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pointrend.zoo
from pointrend.cli import main
from pointrend.zoo import Model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process and gives exit code, stdout and stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


@pytest.fixture
def predict(run: Run, color_model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`pointrend predict` with a model that labels pixels by their brightest channel."""
    monkeypatch.setattr(pointrend.zoo, "load_model", lambda name, **settings: color_model())
    return lambda *arguments: run("predict", *arguments)


@pytest.fixture
def photo(tmp_path: Path, color_image: Callable[..., np.ndarray]) -> Path:
    """A photograph of 50x70 pixels."""
    path = tmp_path / "in" / "photo.png"
    path.parent.mkdir()
    Image.fromarray(color_image(50, 70)).save(path)
    return path
