"""Synthetic scenes: discs and polygons whose boundaries are known exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from miniatures import ellipses, write_split
from PIL import Image

CLASSES = ["background", "disc", "polygon"]


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in the folder layout: 24 scenes to train on, 8 to evaluate."""
    root = tmp_path_factory.mktemp("scenes")
    write_split(root / "train", 24, first_seed=0)
    write_split(root / "val", 8, first_seed=1000)
    (root / "classes.json").write_text(json.dumps(CLASSES))
    return root


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ellipses on a dark ground, one id each: 12 images to train on, of which one is empty, 4 to evaluate."""
    root = tmp_path_factory.mktemp("blobs")
    for split, count, first in (("train", 12, 0), ("val", 4, 100)):
        for name in ("images", "labels"):
            (root / split / name).mkdir(parents=True)
        for index in range(count):
            random = np.random.default_rng(first + index)
            ids = ellipses(random, count=0 if (split, index) == ("train", 0) else 5)
            light = np.where(ids > 0, 170 + 10 * (ids % 4), 40) + random.normal(0, 8, ids.shape)
            pixels = np.repeat(light.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
            Image.fromarray(pixels).save(root / split / "images" / f"{index:02}.png")
            Image.fromarray(ids.astype(np.uint16)).save(root / split / "labels" / f"{index:02}.png")
    return root


@pytest.fixture(scope="session")
def tiny_settings() -> list[str]:
    """`--set` values that make a recipe small enough for a test."""
    return [
        "model.backbone=test_efficientnet",
        "start.weights=none",
        "model.fpn_channels=16",
        "model.coarse_channels=16",
        "model.point.hidden=32",
        "model.fine_strides=[4, 2]",
        "data.layout=folder",
        "augment.crop=[64, 64]",
        "augment.base_scale=1.0",
        "augment.grayscale=0",
        "loss.sampling.num_points=256",
        "loss.class_balance=0",
        "optim.backbone_lr=3e-3",
        "optim.lr=3e-3",
        "optim.warmup=5",
        "optim.ema=0.9",
        "train.batch_size=4",
        "train.workers=0",
        "train.log_every=5",
        "train.precision=32-true",
        "test.shortest=96",
        "test.longest=96",
        "test.subdivision.num_points=1024",
    ]
