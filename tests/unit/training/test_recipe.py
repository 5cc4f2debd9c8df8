from __future__ import annotations

from pathlib import Path

import pytest
import timm

from pointrend.recipes import InstanceRecipe, SemanticRecipe
from pointrend.training.recipe import (
    RecipeError,
    all_keys,
    different_keys,
    from_yaml,
    load_recipe,
    recipe_names,
    to_yaml,
)
from pointrend.zoo.manifest import PUBLISHED


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid_and_named_after_their_file(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description


def test_published_recipes_have_the_published_numbers() -> None:
    recipe = load_recipe("cityscapes-r50")
    assert recipe.model.backbone == "resnet50c"
    assert (recipe.model.fpn_channels, recipe.model.coarse_channels) == (256, 128)
    point, sampling, subdivision = recipe.model.point, recipe.loss.sampling, recipe.test.subdivision
    assert (point.hidden, point.depth, point.coarse_every_layer) == (256, 3, True)
    assert (sampling.num_points, sampling.oversample, sampling.importance) == (2048, 3.0, 0.75)
    assert (subdivision.num_points, subdivision.steps) == (8196, 2)
    assert recipe.augment.max_class_share == 0.75
    assert recipe.augment.photometric == "published"
    assert load_recipe("ade20k-r101").train.iterations == 160_000
    published = [load_recipe(f"{data}-{depth}") for data in ("cityscapes", "ade20k") for depth in ("r50", "r101")]
    assert {recipe.loss.average for recipe in published} == {"all"}
    assert not any(recipe.input.antialias for recipe in published)
    assert load_recipe("people-lite0").loss.average == "labelled"


def test_recipes_of_other_data_and_schedules_have_the_published_numbers() -> None:
    expected = {
        "voc-aug-{}": ("voc", (512, 512), 512, 2048, 40_000, 16, 512),
        "cityscapes-{}-769": ("cityscapes", (769, 769), 1025, 2049, 80_000, 8, 1025),
        "ade20k-{}-80k": ("ade20k", (512, 512), 512, 2048, 80_000, 16, 512),
        "ade20k-{}": ("ade20k", (512, 512), 512, 2048, 160_000, 16, 512),
    }
    for name, numbers in expected.items():
        for depth in (50, 101):
            recipe = load_recipe(name.format(f"r{depth}"))
            assert isinstance(recipe, SemanticRecipe)
            augment, train = recipe.augment, recipe.train
            found = (augment.crop, augment.base_short, augment.base_long, train.iterations, train.batch_size)
            assert (recipe.data.layout, *found, recipe.test.shortest) == numbers
            assert recipe.test.longest == numbers[3]
            assert recipe.model.backbone == f"resnet{depth}c"
            # The rest is that of the published Cityscapes setting.
            published = load_recipe("cityscapes-r50")
            assert (recipe.optim, recipe.loss, recipe.input) == (published.optim, published.loss, published.input)


def test_the_recipe_of_detectron2_fits_its_published_model() -> None:
    recipe = load_recipe("cityscapes-r101-d2")
    assert isinstance(recipe, SemanticRecipe)
    published = PUBLISHED["d2-semantic-r101-cityscapes"].spec
    # The published one starts from Caffe's weights, which take their stride elsewhere.
    assert recipe.model.model_copy(update={"stride_in_1x1": True}) == published.architecture
    assert recipe.test == published.test
    assert (recipe.start.freeze_norm, recipe.start.freeze_stages) == (True, 0)
    assert recipe.augment.base_short == (512, 768, 1024, 1280, 1536, 1792, 2048)
    assert (recipe.augment.base_long, recipe.augment.scale, recipe.augment.tries) == (4096, (1, 1), 9)
    assert (recipe.loss.average, recipe.loss.sampling.num_points) == ("labelled", 2048)
    optim = recipe.optim
    assert (optim.lr, optim.weight_decay, optim.norm_weight_decay, optim.momentum) == (0.01, 1e-4, 0, 0.9)
    assert (optim.warmup, optim.steps, recipe.train.iterations) == (1000, (40_000, 55_000), 65_000)
    assert recipe.train.batch_size == 32


def test_box_losses_of_published_instance_recipes_are_l1() -> None:
    instance = [name for name in recipe_names() if "rcnn" in name]
    assert len(instance) == 6
    assert {load_recipe(name).loss.smooth_l1_beta for name in instance} == {0.0}
    assert all(load_recipe(name).input.antialias for name in instance)
    assert all(load_recipe(name).data.skip_empty for name in instance)
    assert not load_recipe("nuclei-lite0").data.skip_empty
    assert load_recipe("nuclei-lite0").loss.smooth_l1_beta == pytest.approx(1 / 9)


@pytest.mark.parametrize("name", [name for name in recipe_names() if "lite0" not in name and "refiner" not in name])
def test_published_recipes_say_which_imagenet_weights_they_start_from(name: str) -> None:
    """And truly: timm's default of the backbone's name."""
    recipe = load_recipe(name)
    tag = timm.models.get_pretrained_cfg(recipe.model.backbone).tag
    said, published = recipe.description.partition("ImageNet weights here: ")[2].split("; ")
    assert said.startswith("timm's ")
    assert tag in said
    assert published.startswith("published: ") or name.startswith("lvis")


def test_set_changes_one_value_and_nothing_else() -> None:
    plain, changed = load_recipe("people-lite0"), load_recipe("people-lite0", ["optim.lr=3e-3"])
    assert changed.optim.lr == 3e-3
    assert different_keys(plain, changed) == ["optim.lr"]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("augment.crop=[64, 96]", "crop", (64, 96)),
        ("augment.photometric=false", "photometric", "none"),
        ("augment.photometric=true", "photometric", "published"),
        ("augment.photometric=mild", "photometric", "mild"),
        ("augment.flip=0", "flip", 0.0),
        ("augment.base_short=null", "base_short", None),
    ],
)
def test_set_reads_yaml(text: str, key: str, value: object) -> None:
    assert getattr(load_recipe("people-lite0", [text]).augment, key) == value


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.iteration=5", "there is no setting train.iteration; the nearest is train.iterations"),
        ("optim.learning_rate=5", "there is no setting optim.learning_rate; the nearest is optim."),
        ("iterations=5", "nearest is train.iterations"),
        ("train.iterations", "key=value"),
        ("=5", "key=value"),
        ("train.iterations=0", "train.iterations"),
        ("train.iterations=many", "got 'many'"),
        ("augment.crop=[1", "not a YAML value"),
        ("train=5", "train is a section; its settings are train.iterations, "),
        ("trian.iterations=5", "the nearest is train.iterations"),
        ("augment.crop=[0, 64]", "augment.crop"),
        ("augment.scale=[2, 0.5]", "augment.scale"),
        ("model.fine_strides=[3]", "model.fine_strides"),
        ("input.std=[0, 1, 1]", "input.std"),
    ],
)
def test_wrong_settings_are_named_in_one_line(override: str, expected: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe("people-lite0", [override])
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_wrong_key_in_a_file_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("optim:\n  momentun: 0.8\n")
    with pytest.raises(RecipeError, match=r"no setting optim.momentun; the nearest is optim.momentum"):
        load_recipe(str(path))


def test_wrong_section_in_a_file_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("trian: {iterations: 5}\n")
    with pytest.raises(RecipeError, match=r"no setting trian; the nearest is train$"):
        load_recipe(str(path))


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "optim: 3\n", ""])
def test_files_that_are_no_recipes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"mine\.yaml"):
        load_recipe(str(path))


def test_set_into_a_file_with_a_broken_section(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("optim: 3\n")
    with pytest.raises(RecipeError, match="not a section"):
        load_recipe(str(path), ["optim.lr=1"])


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(RecipeError, match="people-lite0"):
        load_recipe("nothing")
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe("missing/recipe.yaml")


def test_yaml_round_trip() -> None:
    recipe = load_recipe("camvid-lite0", ["optim.backbone_lr=null"])
    assert from_yaml(to_yaml(recipe)) == recipe


def test_all_keys_reach_every_value() -> None:
    for kind in (SemanticRecipe, InstanceRecipe):
        keys = all_keys(kind)
        assert {"train.iterations", "loss.sampling.num_points", "loss.weights.points", "test.subdivision.steps"} <= {
            *keys
        }
        assert len(keys) == len(set(keys))
    assert different_keys(SemanticRecipe(name="a"), SemanticRecipe(name="b")) == ["name"]
