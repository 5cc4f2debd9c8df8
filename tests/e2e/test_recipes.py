"""Shipped recipes run: one iteration each, on small crops of synthetic scenes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointrend.data import find_samples
from pointrend.data.instance_layouts import find_instance_samples
from pointrend.train.instance import InstanceTask
from pointrend.train.loop import train
from pointrend.train.recipe import InstanceRecipe, SemanticRecipe, load_recipe, recipe_names
from pointrend.train.semantic import SemanticTask
from pointrend.train.task import Task
from pointrend.zoo.modelfile import read_spec

SMALL = [
    "model.weights=none",
    "train.iterations=1",
    "train.batch_size=2",
    "train.workers=0",
    "train.eval_images=1",
    "test.shortest=64",
    "test.longest=64",
]
SEMANTIC = ["data.layout=folder", "augment.crop=[64, 64]", "augment.base_short=null"]
INSTANCE = [
    "data.layout=instance-ids",
    "data.train=train",
    "data.val=val",
    "augment.shortest=[64]",
    "augment.longest=64",
    "test.scale=null",
]


def task_of(name: str, settings: list[str], scenes: Path, blobs: Path) -> Task:
    if load_recipe(name).task == "instance":
        recipe = load_recipe(name, [*SMALL, *INSTANCE, *settings])
        assert isinstance(recipe, InstanceRecipe)
        train_set, val_set = (find_instance_samples(blobs, layout="instance-ids", split=s) for s in ("train", "val"))
        return InstanceTask(recipe, train_set, val_set)
    semantic = load_recipe(name, [*SMALL, *SEMANTIC, *settings])
    assert isinstance(semantic, SemanticRecipe)
    train_samples, val_samples = (find_samples(scenes, layout="folder", split=split) for split in ("train", "val"))
    return SemanticTask(semantic, train_samples, val_samples)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("people-lite0", []),
        ("camvid-lite0", []),
        ("cityscapes-r50", []),
        ("nuclei-lite0", ["augment.crop=[64, 64]"]),
        ("coco-rcnn-r50-1x", ["model.fpn_channels=32", "model.box_hidden=32", "model.coarse_hidden=32"]),
    ],
)
def test_recipe_trains(name: str, settings: list[str], scenes: Path, blobs: Path, tmp_path: Path) -> None:
    task = task_of(name, settings, scenes, blobs)
    outcome = train(task, tmp_path)
    assert outcome.scores is not None
    assert read_spec(outcome.model) == task.spec


@pytest.mark.parametrize("name", recipe_names())
def test_recipe_builds_its_network(name: str, scenes: Path, blobs: Path) -> None:
    network = task_of(name, [], scenes, blobs).build()
    assert network.backbone.channels[-4:] == ((24, 40, 112, 320) if name.endswith("lite0") else (256, 512, 1024, 2048))
