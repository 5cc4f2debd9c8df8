"""Refiners train by their recipes on miniatures of what these name, and learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pointrend
from pointrend.data.masks.scenes import CocoObjects, Cutouts, Labelled, Photos, Scene, Shapes, coco_labelled, spoiled
from pointrend.data.masks.sources import mask_windows
from pointrend.data.problems import DatasetError
from pointrend.data.settings import InputSpec, MaskAugment, MaskDataSettings, MaskSource
from pointrend.spec import RefinerSpec
from pointrend.training.recipe import load_recipe, recipe_names
from pointrend.zoo.modelfile import read_spec

REFINERS = [name for name in recipe_names() if load_recipe(name).task == "refinement"]
SHORT = [
    "start.weights=none",
    "train.batch_size=2",
    "train.workers=0",
    "train.precision=32-true",
    "train.accelerator=cpu",
    "augment.window=64",
    "augment.context=32",
    "loss.num_points=256",
]


def disc(size: int = 150, radius: float = 45) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size / 2
    return np.hypot(y, x) < radius


def miniature(root: Path, data: MaskDataSettings) -> None:
    """Write two images for each source of a recipe, as it wants them, and for its folders of backgrounds."""
    random = np.random.default_rng(0)

    def photo(path: Path) -> None:
        pixels = np.where(disc()[..., None], 200, 60) + random.normal(0, 9, (150, 150, 3))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)

    for folder in data.photos:
        photo(root / folder / "ground.jpg")
    for source in data.sources:
        if source.kind == "cutouts":
            for folder in source.images.split(","):
                (root / folder.strip()).mkdir(parents=True, exist_ok=True)
                alpha = (disc()[..., None] * np.array([200, 30, 40, 255])).astype(np.uint8)
                Image.fromarray(alpha, "RGBA").save(root / folder.strip() / "cut.png")
        elif source.kind == "coco":
            photo(root / source.images / "1.jpg")
            square = [[40, 40, 110, 40, 110, 110, 40, 110]]
            found = {"id": 1, "image_id": 1, "category_id": 1, "area": 4900, "iscrowd": 0, "segmentation": square}
            images = [{"id": 1, "file_name": "1.jpg", "width": 150, "height": 150}]
            (root / source.masks).parent.mkdir(parents=True, exist_ok=True)
            (root / source.masks).write_text(json.dumps({"images": images, "annotations": [found]}))
        elif source.kind != "shapes":
            value = {"pairs": 255, "labels": 3, "ids": 7}[source.kind]
            for name in "ab":
                photo(root / source.images / f"{name}.jpg")
                (root / source.masks).mkdir(parents=True, exist_ok=True)
                Image.fromarray((disc() * value).astype(np.uint8)).save(root / source.masks / f"{name}.png")
                if source.soft is not None:
                    (root / source.soft).mkdir(parents=True, exist_ok=True)
                    Image.fromarray((disc(60, 18) * 255).astype(np.uint8)).save(root / source.soft / f"{name}.png")


@pytest.mark.parametrize("name", REFINERS)
def test_a_recipe_trains_on_a_miniature_of_its_data(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    miniature(tmp_path / "data", recipe.data)  # type: ignore[arg-type]
    small = ["model.backbone=tf_efficientnet_lite0", "model.pyramid_channels=16", "train.iterations=2"]
    outcome = pointrend.train(name, tmp_path / "data", tmp_path / "run", settings=[*SHORT, *small])
    spec = read_spec(outcome.model)
    assert isinstance(spec, RefinerSpec)
    assert spec.training is not None
    assert (spec.training.crop, spec.training.iterations) == ((64, 64), 2)
    mask = pointrend.refine(np.zeros((90, 90, 3), np.uint8), disc(90, 20), model=outcome.model)
    assert mask.labels.shape == (90, 90)


@pytest.mark.slow
def test_what_is_learned_mends_a_mask(tmp_path: Path) -> None:
    source = MaskSource(kind="pairs", share=1, images="im", masks="gt")
    miniature(tmp_path / "data", MaskDataSettings(sources=(source,)))
    listed = "data.sources=[{kind: pairs, share: 1, images: im, masks: gt}]"
    settings = [*SHORT, listed, "data.photos={}", "model.pyramid_channels=16", "augment.clean=0", "train.batch_size=4"]
    settings += ["train.iterations=60", "optim.warmup=2", "optim.lr=3e-3", "optim.ema=0.9", "start.freeze_norm=false"]
    outcome = pointrend.train("refiner-lite0", tmp_path / "data", tmp_path / "run", settings=settings)
    image, truth = tmp_path / "data" / "im" / "a.jpg", disc()
    wrong = disc(radius=37)
    refined = pointrend.refine(image, wrong, model=outcome.model, extent=20, keep=0).mask

    def iou(mask: np.ndarray) -> float:
        return float((mask & truth).sum() / (mask | truth).sum())

    assert iou(wrong) < 0.7
    assert iou(refined) > 0.9


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    miniature(tmp_path, MaskDataSettings(photos={"ground": 1}))
    return Photos([tmp_path / "ground" / "ground.jpg"])


def exact(scene: Scene, size: int) -> None:
    assert scene.image.shape == (size, size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.mask.shape == scene.ignored.shape == (size, size)
    assert scene.mask.min() >= 0
    assert scene.mask.max() <= 1


def test_the_mask_of_a_scene_is_what_the_image_shows(tmp_path: Path, photos: Photos) -> None:
    data = MaskDataSettings(
        sources=(
            MaskSource(kind="labels", share=1, images="im", masks="gt", soft="soft", margin=1),
            MaskSource(kind="coco", share=1, images="co", masks="co.json", margin=3),
        )
    )
    miniature(tmp_path, data)
    labelled = Labelled([(tmp_path / "im" / "a.jpg", tmp_path / "gt" / "a.png")], tmp_path / "soft", 1.0)
    coco = CocoObjects(coco_labelled(tmp_path / "co", tmp_path / "co.json"))
    softs = 0
    for seed in range(12):
        for source in (labelled, coco):
            scene = source.draw(96, np.random.default_rng(seed))
            exact(scene, 96)
            softs += scene.given is not None
            assert scene.ignored.any() or source is labelled
            if source is labelled:  # the disc is bright
                bright = scene.image.mean(2) > 130
                sure = ~scene.ignored
                assert (bright == (scene.mask > 0.5))[sure].mean() > 0.98
    assert softs > 2


def test_composites_have_exact_masks(tmp_path: Path, photos: Photos) -> None:
    (tmp_path / "cut").mkdir()
    Image.fromarray((disc(80, 30)[..., None] * np.array([255, 0, 255, 255])).astype(np.uint8), "RGBA").save(
        tmp_path / "cut" / "a.png"
    )
    for seed in range(10):
        scene = Cutouts([[tmp_path / "cut" / "a.png"]], photos).draw(96, np.random.default_rng(seed))
        exact(scene, 96)
        assert not scene.ignored.any()
        exact(Shapes(photos).draw(96, np.random.default_rng(seed)), 96)


def test_windows_depend_on_their_key_alone(tmp_path: Path) -> None:
    recipe = load_recipe("refiner-lite0")
    miniature(tmp_path, recipe.data)  # type: ignore[arg-type]
    windows = mask_windows(recipe.data, MaskAugment(window=64, context=32), InputSpec(), tmp_path)  # type: ignore[arg-type]
    (a, labels), (b, _), (c, _) = windows[3, 7], windows[3, 7], windows[4, 7]
    assert a.shape == (6, 64, 64)
    assert labels.shape == (64, 64)
    assert set(labels.unique().tolist()) <= {0, 1, 255}
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(a[3], a[5])  # the first pass is given the mask itself
    assert float(a[3:].min()) >= -1
    assert float(a[3:].max()) <= 1


def test_photographs_are_spoiled_within_reason() -> None:
    image = np.full((40, 40, 3), 128, np.uint8)
    means = [spoiled(image, np.random.default_rng(seed)).mean() for seed in range(20)]
    assert 100 < np.mean(means) < 156
    assert np.std(means) > 3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (MaskDataSettings(), "data.sources: a refiner learns from at least one source"),
        (MaskDataSettings(sources=(MaskSource(kind="shapes", share=1),)), "data.photos: cut-outs and shapes need"),
        (
            MaskDataSettings(sources=(MaskSource(kind="pairs", share=1, images="im", masks="gt"),)),
            "gt: no such folder; the recipe's data section names it",
        ),
    ],
)
def test_missing_data_is_said(data: MaskDataSettings, said: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=said):
        mask_windows(data, MaskAugment(), InputSpec(), tmp_path)
