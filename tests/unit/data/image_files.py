"""Images on disk for the tests, and what their errors look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointrend.data.images import ImageError


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def noise(mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def check_one_line(error: pytest.ExceptionInfo[ImageError], path: Path) -> None:
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) > len(f"{path}: ") + 5
