"""Shipped recipes run, on small crops of synthetic scenes and on miniatures of their data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import miniatures
import pytest

from pointrend.data import find_samples
from pointrend.models import InstancePointRend, SemanticPointRend
from pointrend.training.loop import train_prepared
from pointrend.training.prepare import Training
from pointrend.training.recipe import load_recipe, recipe_names
from pointrend.training.run import train
from pointrend.zoo.modelfile import network_of, read_spec

SMALL = [
    "start.weights=none",
    "train.iterations=1",
    "train.batch_size=2",
    "train.workers=0",
    "train.eval_images=1",
    "test.shortest=64",
    "test.longest=64",
]
SEMANTIC = ["data.layout=folder", "augment.crop=[64, 64]", "augment.base_short=null", "augment.base_long=null"]
INSTANCE = [
    "data.layout=instance-ids",
    "data.train=train",
    "data.val=val",
    "augment.shortest=[64]",
    "augment.longest=64",
    "test.scale=null",
]


def training_of(name: str, settings: list[str], scenes: Path, blobs: Path) -> Training:
    task = load_recipe(name).task
    root, own = (blobs, INSTANCE) if task == "instance" else (scenes, SEMANTIC)
    recipe = load_recipe(name, [*SMALL, *own, *settings])
    train_set, val_set = (
        find_samples(root, task=task, layout=recipe.data.layout, split=split) for split in ("train", "val")
    )
    return Training(recipe, train_set, val_set)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("people-lite0", []),
        ("camvid-lite0", []),
        pytest.param("cityscapes-r50", [], marks=pytest.mark.slow),
        ("nuclei-lite0", ["augment.crop=[64, 64]"]),
        pytest.param(
            "coco-rcnn-r50-1x",
            ["model.fpn_channels=32", "model.box_hidden=32", "model.mask.hidden=32"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_recipe_trains(name: str, settings: list[str], scenes: Path, blobs: Path, tmp_path: Path) -> None:
    training = training_of(name, settings, scenes, blobs)
    outcome = train_prepared(training, tmp_path)
    assert outcome.scores is not None
    found = read_spec(outcome.model)
    assert found.training is not None
    assert found.training.iterations == outcome.iteration
    assert found.model_copy(update={"training": None}) == training.spec


@pytest.mark.parametrize("name", [name for name in recipe_names() if load_recipe(name).task != "refinement"])
def test_recipe_builds_its_network(name: str, scenes: Path, blobs: Path) -> None:
    network = network_of(training_of(name, [], scenes, blobs).spec)
    assert isinstance(network, InstancePointRend if "rcnn" in name or "nuclei" in name else SemanticPointRend)
    assert network.backbone.channels[-4:] == ((24, 40, 112, 320) if name.endswith("lite0") else (256, 512, 1024, 2048))


MINIATURE = [
    *SMALL[:1],
    "train.iterations=2",
    "train.eval_every=2",
    *SMALL[2:],
    "augment.crop=[65, 97]",
    "model.backbone=test_efficientnet",
    "model.fpn_channels=16",
    "model.coarse_channels=32",
    "data.allow_empty_classes=true",
]
"""Everything that describes how images are read, augmented, learned from and scored is the recipe's own."""


@pytest.mark.parametrize(
    ("name", "write", "train_images"),
    [
        ("voc-aug-r50", miniatures.voc, 4),
        ("voc-aug-r101", miniatures.voc, 4),
        ("cityscapes-r50", miniatures.cityscapes, 3),
        ("cityscapes-r50-769", miniatures.cityscapes, 3),
        ("cityscapes-r101-769", miniatures.cityscapes, 3),
        ("cityscapes-r101-d2", miniatures.cityscapes, 3),
        ("ade20k-r50", miniatures.ade20k, 3),
        ("ade20k-r50-80k", miniatures.ade20k, 3),
        ("ade20k-r101-80k", miniatures.ade20k, 3),
    ],
)
def test_recipe_trains_on_the_layout_of_its_data(
    name: str, write: Callable[[Path], Path], train_images: int, tmp_path: Path
) -> None:
    root = write(tmp_path / "data")
    recipe = load_recipe(name, MINIATURE)
    assert recipe.augment.model_dump() == load_recipe(name).augment.model_dump() | {"crop": (65, 97)}
    assert len(find_samples(root, layout=recipe.data.layout, split=recipe.data.train).samples) == train_images
    outcome = train(recipe, root, tmp_path / "run")
    assert outcome.scores is not None
    assert all(0 <= row["miou"] <= 100 for row in outcome.scores.rows.values())
