"""Recipes: named training settings, one YAML file each, validated before anything else happens."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError, field_validator

from pointrend.zoo.spec import InputSpec, InstanceNetwork, InstanceTestSpec, SemanticNetwork, Strict, TestSpec


class RecipeError(ValueError):
    """A recipe or a `--set` that cannot be used; the message is one line."""


class ModelSettings(SemanticNetwork):
    """The network, see `pointrend.models.semantic_pointrend`. The number of classes comes from the data."""

    weights: Literal["imagenet", "none"] = Field("imagenet", description="what the backbone starts from")


class DataSettings(Strict):
    """The dataset. `train` and `val` are the splits' names."""

    layout: str | None = Field(None, description="None looks at the folders")
    train: str = "train"
    val: str = "val"


class AugmentSettings(Strict):
    """The published augmentations; see `pointrend.data.transforms.train_transform`."""

    crop: tuple[PositiveInt, PositiveInt] = Field((512, 1024), description="H, W")
    base_scale: float = Field(1.0, gt=0, description="images are resized by this times a random scale")
    base_short: int | None = Field(None, ge=1, description="images are resized to this shortest edge before that")
    scale: tuple[PositiveFloat, PositiveFloat] = Field((0.5, 2.0), description="the range of the random scale")
    max_class_share: float = Field(0.75, gt=0, le=1, description="no class has more of a crop; 1 turns it off")
    flip: float = Field(0.5, ge=0, le=1)
    photometric: bool = True
    rotate: float = Field(0.0, ge=0, le=180, description="degrees to either side")
    grayscale: float = Field(0.0, ge=0, le=1)

    @field_validator("scale")
    @classmethod
    def _ascending(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError("expected the smaller scale first")
        return scale


class LossSettings(Strict):
    """Cross entropy on the upsampled coarse logits plus cross entropy on the points."""

    coarse_weight: float = Field(1.0, ge=0)
    point_weight: float = Field(1.0, ge=0)
    num_points: int = Field(2048, ge=1)
    oversample: float = Field(3.0, ge=1, description="k")
    importance: float = Field(0.75, ge=0, le=1, description="beta")
    class_balance: float = Field(
        0.0, ge=0, le=1, description="classes weigh (median frequency / frequency) to this power, at most 5"
    )


class InstanceModelSettings(InstanceNetwork):
    """The network, see `pointrend.models.instance_pointrend`. The number of classes comes from the data."""

    weights: Literal["imagenet", "none"] = Field("imagenet", description="what the backbone starts from")
    freeze_norm: bool = Field(False, description="the backbone's batch norms keep their statistics and weights")
    freeze_stages: int = Field(0, ge=0, le=5, description="of the backbone, that are not trained: 2 is stem and first")


class InstanceAugmentSettings(Strict):
    """See `pointrend.data.instance_transforms.instance_transform`."""

    shortest: tuple[PositiveInt, ...] = Field((640, 672, 704, 736, 768, 800), min_length=1)
    longest: PositiveInt = 1333
    scale: tuple[PositiveFloat, PositiveFloat] | None = Field(None, description="a random scale instead of `shortest`")
    crop: tuple[PositiveInt, PositiveInt] | None = Field(None, description="H, W of a random window; None takes all")
    flip: float = Field(0.5, ge=0, le=1)
    dihedral: bool = Field(False, description="one of the eight turns and flips of a square instead of `flip`")
    photometric: bool = False
    grayscale: float = Field(0.0, ge=0, le=1)
    repeat_threshold: float = Field(
        0.0, ge=0, le=1, description="classes in fewer images than this share are seen more often (LVIS); 0: off"
    )

    @field_validator("scale")
    @classmethod
    def _ascending(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and scale[0] > scale[1]:
            raise ValueError("expected the smaller scale first")
        return scale


class InstanceLossSettings(Strict):
    """The losses of Mask R-CNN's detector, of the coarse masks and of the points (paper, section 4.1)."""

    proposals_per_level: int = Field(2000, ge=1, description="before non-maximum suppression")
    max_proposals: int = Field(1000, ge=1)
    regions: int = Field(512, ge=1, description="proposals of an image that the box head is trained on")
    positive_share: float = Field(0.25, gt=0, le=1, description="of these, at most")
    coarse_weight: float = Field(1.0, ge=0)
    point_weight: float = Field(1.0, ge=0)
    num_points: int = Field(196, ge=1)
    oversample: float = Field(3.0, ge=1, description="k")
    importance: float = Field(0.75, ge=0, le=1, description="beta")


class OptimSettings(Strict):
    """The optimiser and its schedule: linear warmup, then polynomial decay, or steps where they are given."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.01, gt=0)
    backbone_lr: float | None = Field(None, gt=0, description="None is lr")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    weight_decay: float = Field(5e-4, ge=0, description="norms and biases are never decayed with adamw")
    warmup: int = Field(0, ge=0, description="iterations")
    steps: tuple[PositiveInt, ...] = Field((), description="iterations at which lr is multiplied by `gamma` instead")
    gamma: float = Field(0.1, gt=0, le=1)
    power: float = Field(0.9, gt=0)
    min_lr: float = Field(1e-4, ge=0, le=1, description="the last factor of lr")
    clip_norm: float = Field(0.0, ge=0, description="0 does not clip gradients")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of an average of the weights, which is what is saved; 0: off"
    )


class TrainSettings(Strict):
    """The run."""

    iterations: int = Field(80_000, ge=1)
    batch_size: int = Field(8, ge=1, description="images an iteration, all processes together")
    seed: int = Field(0, ge=0)
    workers: int = Field(2, ge=0, description="processes that read data, for each training process")
    eval_every: int = Field(4000, ge=1)
    eval_images: int | None = Field(None, ge=1, description="the first images of val; None takes all")
    save_every: int = Field(1000, ge=1)
    log_every: int = Field(20, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["cpu", "cuda", "mps", "auto"] = "cpu"
    devices: int = Field(1, ge=1)
    channels_last: bool = True


class _Recipe(Strict):
    """The settings that both tasks have."""

    name: str
    description: str = ""
    data: DataSettings = DataSettings()
    input: InputSpec = InputSpec()
    optim: OptimSettings = OptimSettings()
    train: TrainSettings = TrainSettings()


class SemanticRecipe(_Recipe):
    """All settings of a training for semantic segmentation."""

    task: Literal["semantic"] = "semantic"
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    loss: LossSettings = LossSettings()
    test: TestSpec = TestSpec()


class InstanceRecipe(_Recipe):
    """All settings of a training for instance segmentation."""

    task: Literal["instance"] = "instance"
    model: InstanceModelSettings = InstanceModelSettings()
    augment: InstanceAugmentSettings = InstanceAugmentSettings()
    loss: InstanceLossSettings = InstanceLossSettings()
    test: InstanceTestSpec = InstanceTestSpec()


Recipe = SemanticRecipe | InstanceRecipe


def recipe_type(task: object) -> type[SemanticRecipe] | type[InstanceRecipe]:
    """The settings of a task; those of semantic segmentation where no task is named."""
    return InstanceRecipe if task == "instance" else SemanticRecipe


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    folder = resources.files("pointrend") / "recipes"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by its name, or from a YAML file, with `key=value` settings applied.

    Raises:
        RecipeError: no such recipe, or a wrong key (the nearest right one is named) or value.
    """
    fields = _read_yaml(name_or_path)
    kind = recipe_type(fields.get("task"))
    for override in overrides:
        _apply(fields, override, kind)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise RecipeError(f"recipe {name_or_path}: {explain(error, kind)}") from error


def explain(error: ValidationError, kind: type[BaseModel] = SemanticRecipe) -> str:
    """The first thing that is wrong, in one line, with the nearest right key for an unknown one."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return unknown_key(key, kind)
    if first["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}"


def unknown_key(key: str, kind: type[BaseModel] = SemanticRecipe) -> str:
    """One line for a key that no recipe of this kind has."""
    inside = [name for name in all_keys(kind) if name.startswith(f"{key}.")]
    if inside:
        return f"{key} is a section; its settings are {', '.join(inside)}"
    near = difflib.get_close_matches(key, [*kind.model_fields, *all_keys(kind)], n=1, cutoff=0.0)
    return f"there is no setting {key}; the nearest is {near[0]}"


def all_keys(model: type[BaseModel] = SemanticRecipe, prefix: str = "") -> list[str]:
    """Every key of a recipe, dotted."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            keys += all_keys(nested, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _read_yaml(name_or_path: str) -> dict[str, Any]:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"recipe {path}: no such file")
        text = path.read_text()
    elif name_or_path in recipe_names():
        text = (resources.files("pointrend") / "recipes" / f"{name_or_path}.yaml").read_text()
    else:
        raise RecipeError(
            f"there is no recipe {name_or_path}; expected one of {', '.join(recipe_names())}, or a path to a .yaml file"
        )
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {name_or_path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"recipe {name_or_path}: expected settings by name, got {type(fields).__name__}")
    fields.setdefault("name", path.stem)
    return fields


def _apply(fields: dict[str, Any], override: str, kind: type[BaseModel]) -> None:
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator or not key:
        raise RecipeError(f"--set expects key=value, got {override!r}")
    if key not in all_keys(kind):
        raise RecipeError(unknown_key(key, kind))
    *sections, last = key.split(".")
    section = fields
    for name in sections:
        existing = section.setdefault(name, {})
        if not isinstance(existing, dict):
            raise RecipeError(f"--set {override}: {name} is not a section of this recipe")
        section = existing
    try:
        section[last] = _yaml_value(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: {text!r} is not a YAML value") from error


def _yaml_value(text: str) -> object:
    value = yaml.safe_load(text)
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value


def from_yaml(text: str) -> Recipe:
    """What `to_yaml` wrote."""
    fields = yaml.safe_load(text)
    return recipe_type(fields.get("task")).model_validate(fields)


def different_keys(a: Recipe, b: Recipe) -> list[str]:
    """The dotted keys in which two recipes differ."""

    def value(recipe: Recipe, key: str) -> object:
        found: object = recipe
        for part in key.split("."):
            found = getattr(found, part)
        return found

    if type(a) is not type(b):
        return ["task"]
    return [key for key in all_keys(type(a)) if value(a, key) != value(b, key)]


def to_yaml(recipe: Recipe) -> str:
    """The whole recipe, defaults included, as YAML."""
    fields: Mapping[str, Any] = recipe.model_dump(mode="json")
    return yaml.safe_dump(dict(fields), sort_keys=False)
