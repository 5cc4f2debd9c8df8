"""Data sets as people have them, a few images each; every test changes one thing about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pointrend.training.prepare import Training, prepare
from pointrend.training.recipe import load_recipe

SIZE = (48, 64)
Content = dict[str, Any]


def disc(seed: int, *, radius: int = 8) -> np.ndarray:
    """(H, W) bool: a disc somewhere."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    left, top = random.integers(radius + 1, SIZE[1] - radius), random.integers(radius + 1, SIZE[0] - radius)
    mask: np.ndarray = (x - left) ** 2 + (y - top) ** 2 < radius**2
    return mask


def photo(mask: np.ndarray) -> Image.Image:
    """The disc is lighter than what is around it."""
    return Image.fromarray(np.where(mask, 200, 90).astype(np.uint8)[..., None].repeat(3, axis=2))


def seeds(split: str, count: int) -> range:
    start = {"train": 0, "val": 100}.get(split, 200)
    return range(start, start + count)


def write_labels(
    root: Path, values: Callable[[np.ndarray], np.ndarray], *, classes: object = ("background", "rust"), count: int = 2
) -> Path:
    """`train/` and `val/` with images/ and labels/; `values` makes a label image from a mask."""
    for split in ("train", "val"):
        for number, seed in enumerate(seeds(split, count)):
            mask = disc(seed)
            for folder, image in (("images", photo(mask)), ("labels", Image.fromarray(values(mask)))):
                (root / split / folder).mkdir(parents=True, exist_ok=True)
                image.save(root / split / folder / f"r{number}.png")
    if classes is not None:
        (root / "classes.json").write_text(json.dumps(classes))
    return root


def coco_content(split: str, count: int) -> Content:
    images, annotations = [], []
    for number, seed in enumerate(seeds(split, count)):
        rows, columns = np.nonzero(disc(seed))
        left, top, right, bottom = (float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        images.append({"id": number + 1, "file_name": f"r{number}.png", "height": SIZE[0], "width": SIZE[1]})
        polygon = [left, top, right, top, right, bottom, left, bottom]
        annotations.append(
            {"id": number + 1, "image_id": number + 1, "category_id": 1, "iscrowd": 0, "segmentation": [polygon]}
            | {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
        )
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "rust"}]}


def write_coco(
    root: Path,
    edit: Callable[[Content], object] = lambda content: None,
    *,
    count: int = 2,
    file: str = "annotations/instances_{}.json",
    folder: str = "{}",
    splits: tuple[str, ...] = ("train", "val"),
) -> Path:
    """A folder of images and a file of annotations a split; `edit` changes the file's content."""
    for split in splits:
        for number, seed in enumerate(seeds(split, count)):
            path = root / folder.format(split) / f"r{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(disc(seed)).save(path)
        content = coco_content(split, count)
        edit(content)
        path = root / file.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return root


def prepared(root: Path, layout: str, *settings: str) -> Training:
    recipe = "people-lite0" if layout == "folder" else "nuclei-lite0"
    return prepare(load_recipe(recipe, [f"data.layout={layout}", *settings]), root)
