"""Recipes by name or from a file, with changed settings, validated before training."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import BaseModel, ValidationError

from pointrend.errors import PointRendError, printable, shown
from pointrend.recipes import Recipe
from pointrend.strict import first_problem
from pointrend.tasks import TASKS
from pointrend.training.yaml_text import MAX_CHARACTERS, YamlError, read_yaml


class RecipeError(PointRendError):
    """An invalid recipe or `--set`."""


def recipe_names() -> list[str]:
    """Return the names of the recipes in the package."""
    folder = resources.files("pointrend") / "recipes"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe by its name or from a YAML file, after applying `key=value` settings.

    Raises:
        RecipeError: no such recipe, an unknown key (the message has the nearest one) or an invalid value.
    """
    settings = _read_yaml(name_or_path)
    kind = _recipe_type(settings, name_or_path)
    for override in overrides:
        _apply(settings, override, kind)
    try:
        return kind.model_validate(_merged(kind.model_validate({"name": ""}).model_dump(), settings))
    except ValidationError as error:
        raise RecipeError(f"{_named(name_or_path)}: {explain(error, kind)}") from error


def _named(name_or_path: str | Path) -> str:
    return f"recipe {printable(str(name_or_path), length=300)}"


def _recipe_type(fields: Mapping[str, Any], name: str) -> type[Recipe]:
    task = fields.get("task", "semantic")
    if not isinstance(task, str) or task not in TASKS:
        raise RecipeError(f"{_named(name)}: unknown task {shown(task)}; expected one of {', '.join(TASKS)}")
    return TASKS[task].recipe


def _merged(defaults: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults updated by fields, section by section."""
    merged = dict(defaults)
    for name, value in fields.items():
        default = defaults.get(name)
        both = isinstance(default, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(default, value) if both else value  # type: ignore[arg-type]
    return merged


def explain(error: ValidationError, kind: type[Recipe]) -> str:
    """Describe the first problem in one line; for an unknown key, with the nearest valid one."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return unknown_key(key, kind)
    return first_problem(error)


def unknown_key(key: str, kind: type[Recipe]) -> str:
    """Describe an unknown key in one line."""
    key = printable(key)
    inside = [name for name in all_keys(kind) if name.startswith(f"{key}.")]
    if inside:
        return f"{key} is a section; its settings are {', '.join(inside)}"
    # Prefer a key of the same name in another section.
    moved = [name for name in all_keys(kind) if name.rpartition(".")[2] == key.rpartition(".")[2]]
    near = difflib.get_close_matches(key, moved or [*kind.model_fields, *all_keys(kind)], n=1, cutoff=0.0)
    return f"there is no setting {key}; the nearest is {near[0]}"


def all_keys(kind: type, prefix: str = "") -> list[str]:
    """Return every dotted key of a class of settings."""
    keys: list[str] = []
    for name, hint in _fields(kind).items():
        keys += all_keys(hint, f"{prefix}{name}.") if _fields(hint) else [prefix + name]
    return keys


def _fields(kind: Any) -> dict[str, Any]:
    """Return the fields of a pydantic model or a dataclass with their types; of another type, an empty dict."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return {field.name: hints[field.name] for field in fields(kind)}
    return {}


def _read_yaml(name_or_path: str) -> dict[str, Any]:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"{_named(path)}: no such file")
        text = _read_text(path)
    elif name_or_path in recipe_names():
        text = (resources.files("pointrend") / "recipes" / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    else:
        raise RecipeError(
            f"there is no {_named(name_or_path)}; expected one of {', '.join(recipe_names())}, "
            "or a path to a .yaml file"
        )
    try:
        fields = read_yaml(text)
    except YamlError as error:
        raise RecipeError(f"{_named(name_or_path)}: {error}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"{_named(name_or_path)}: expected settings by name, got {type(fields).__name__}")
    fields.setdefault("name", path.stem)
    return fields


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_CHARACTERS + 1).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{_named(path)}: not text in UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise RecipeError(f"{_named(path)}: cannot be read ({error.strerror})") from error


def _apply(settings: dict[str, Any], override: str, kind: type[Recipe]) -> None:
    key, separator, text = override.partition("=")
    key = key.strip()
    if not separator or not key:
        raise RecipeError(f"--set expects key=value, got {shown(override)}")
    if key not in all_keys(kind):
        raise RecipeError(unknown_key(key, kind))
    *sections, last = key.split(".")
    section = settings
    for name in sections:
        existing = section.setdefault(name, {})
        if not isinstance(existing, dict):
            raise RecipeError(f"--set {printable(override)}: {name} is not a section of this recipe")
        section = existing
    try:
        section[last] = _yaml_value(text)
    except YamlError as error:
        raise RecipeError(f"--set {printable(override)}: {shown(text)} is not a YAML value ({error})") from error


def _yaml_value(text: str) -> object:
    value = read_yaml(text)
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value


def from_yaml(text: str) -> Recipe:
    """Return the recipe from `to_yaml`'s text.

    Raises:
        RecipeError: it is not such a text.
    """
    try:
        settings = read_yaml(text)
        if not isinstance(settings, dict):
            raise RecipeError(f"the text of a recipe has no settings by name, but a {type(settings).__name__}")
        kind = _recipe_type(settings, str(settings.get("name"))[:100])
        return kind.model_validate(settings)
    except YamlError as error:
        raise RecipeError(f"the text of a recipe is damaged: {error}") from error
    except ValidationError as error:
        raise RecipeError(f"the text of a recipe is wrong at {first_problem(error)}") from error


HARMLESS = (
    "description",
    "data.max_bad",
    "train.workers",
    "train.devices",
    "train.nodes",
    "train.log_every",
    "train.save_every",
    "train.keep",
    "train.iterations",
    "train.loggers",
)
"""Settings that a resumed training may change: how long it is, on what it runs, and what it writes."""


def different_keys(a: Recipe, b: Recipe) -> list[str]:
    """Return the dotted keys in which two recipes differ so that one cannot continue the other's training."""
    if type(a) is not type(b):
        return ["task"]

    keys = [key for key in all_keys(type(a)) if key not in HARMLESS]
    return [key for key in keys if attrgetter(key)(a) != attrgetter(key)(b)]


def flat_settings(recipe: Recipe) -> dict[str, Any]:
    """Return all settings as plain values by their dotted keys, as in `--set`."""

    def flat(section: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in section.items():
            found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name: value}
        return found

    return flat(recipe.model_dump(mode="json"), "")


def to_yaml(recipe: Recipe) -> str:
    """Return the whole recipe as YAML, including defaults."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
