"""Shipped recipes run: one iteration each, on small crops of synthetic scenes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointrend.data import find_samples
from pointrend.train.loop import model_spec, train
from pointrend.train.recipe import load_recipe, recipe_names
from pointrend.zoo.modelfile import build, read_spec

SMALL = [
    "data.layout=folder",
    "model.weights=none",
    "augment.crop=[64, 64]",
    "augment.base_short=null",
    "train.iterations=1",
    "train.batch_size=2",
    "train.workers=0",
    "train.eval_images=1",
    "test.shortest=64",
    "test.longest=64",
]


@pytest.mark.parametrize("name", ["people-lite0", "camvid-lite0", "cityscapes-r50"])
def test_recipe_trains(name: str, scenes: Path, tmp_path: Path) -> None:
    recipe = load_recipe(name, SMALL)
    samples = [find_samples(scenes, layout="folder", split=split) for split in ("train", "val")]
    outcome = train(recipe, samples[0], samples[1], tmp_path)
    assert outcome.evaluation is not None
    assert read_spec(outcome.model).architecture.backbone == recipe.model.backbone


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_builds_its_network(name: str, scenes: Path) -> None:
    recipe = load_recipe(name)
    network = build(model_spec(recipe, find_samples(scenes, layout="folder", split="train")))
    assert network.backbone.channels[-4:] == ((256, 512, 1024, 2048) if "-r" in name else (24, 40, 112, 320))
