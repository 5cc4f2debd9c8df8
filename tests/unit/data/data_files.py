"""Small data sets on disk for the tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, *, size: tuple[int, int] = (6, 8), value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def write_labels(path: Path, values: object = None, *, size: tuple[int, int] = (6, 8)) -> None:
    """`values` are repeated to fill the size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = np.resize(np.asarray([0] if values is None else values), size).astype(np.uint8)
    Image.fromarray(content).save(path)


def write_folder(root: Path, stems: str = "abc", *, classes: object = ("background", "cat")) -> Path:
    """images/ and labels/ and, unless it is None, classes.json."""
    for value, stem in enumerate(stems):
        write_image(root / "images" / f"{stem}.png", value=value)
        write_labels(root / "labels" / f"{stem}.png", [0, 1])
    if classes is not None:
        (root / "classes.json").write_text(json.dumps(classes))
    return root
