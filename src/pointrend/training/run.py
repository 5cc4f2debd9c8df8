"""Training in one call: a recipe, a data set and a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pointrend.recipes import Recipe
from pointrend.tasks import TASKS, samples_of
from pointrend.training.loggers import check_loggers
from pointrend.training.loop import Outcome, train_prepared
from pointrend.training.memory import keep_freed_memory
from pointrend.training.prepare import check_logits, check_output, prepare
from pointrend.training.recipe import RecipeError, load_recipe
from pointrend.zoo import Model


def train(
    recipe: str | Recipe,
    data: str | Path,
    out: str | Path,
    *,
    settings: Sequence[str] = (),
    resume: bool = False,
    model: Model | None = None,
) -> Outcome:
    """Check a data set, then train a model on it.

    Args:
        recipe: a recipe's name, such as "people-lite0", the path of a YAML file, or a recipe.
        data: the folder of the data set.
        out: the run's folder, for `best` and `last` model files, the checkpoint, logs and the recipe.
        settings: changes to a recipe given by name or path, such as "train.iterations=2000".
        model: train this one, for instance from `attach`, instead of the recipe's network: its weights, its input and
            its test settings are kept, the recipe's `model`, `input`, `test` and `start.weights` have no effect.
        resume: continue from the last checkpoint in `out`, exactly as if there had been no interruption.

    Raises:
        PointRendError: an invalid setting, unusable data, nothing to resume from, or a training already in `out`.
        FloatingPointError: the loss or the weights are not finite; the last good checkpoint is kept.
    """
    resolved = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, settings)
    if model is not None:
        task = model.spec.task
        if samples_of(task) != samples_of(resolved.task):
            raise RecipeError(f"the recipe is for {resolved.task} models, {model.spec.name} is of {model.spec.task}")
        if task != resolved.task:  # of the same data: all settings hold
            resolved = TASKS[task].recipe.model_validate(resolved.model_dump() | {"task": task})
        kept = {"model": model.spec.architecture, "input": model.spec.input, "test": model.spec.test}
        start = resolved.start.model_copy(update={"weights": "none"})
        resolved = resolved.model_copy(update={**kept, "start": start})
    check_loggers(resolved.train.loggers)
    check_output(Path(out), resume=resume)
    training = prepare(resolved, Path(data))
    if model is not None:
        check_logits(model, training)
        training = replace(training, model=model)
    if resolved.train.accelerator == "cpu":
        keep_freed_memory()
    return train_prepared(training, Path(out), resume=resume)
