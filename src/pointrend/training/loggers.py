"""Loggers that a recipe names: TensorBoard, Weights & Biases and MLflow, each through its own package."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pointrend.errors import PointRendError
from pointrend.recipes import Recipe
from pointrend.training.environment import logger_id, remember_logger
from pointrend.training.recipe import flat_settings

PROJECT = "pointrend"
"""The project, or experiment, of runs, unless the environment names another."""
MLFLOW_BATCH = 100
"""The maximum number of parameters that MLflow takes at once."""


class Logger(Protocol):
    """Takes the numbers of iterations."""

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        """Record the numbers of an iteration."""

    def close(self, *, failed: bool) -> None:
        """Flush and close, and say how the training ended."""


class _TensorBoard:
    def __init__(self, folder: Path, recipe: Recipe) -> None:
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        self._logger = TensorBoardLogger(folder, name="tensorboard", version="")

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        self._logger.log_metrics(dict(values), iteration)

    def close(self, *, failed: bool) -> None:
        self._logger.finalize("failed" if failed else "success")


class _WeightsAndBiases:
    """Goes on with the same run when a training resumes."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        wandb: Any = import_module("wandb")
        earlier = logger_id(folder, "wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.resolve().name,
            dir=str(folder),
            config=flat_settings(recipe),
            id=earlier,
            resume="allow" if earlier else None,
        )
        remember_logger(folder, "wandb", self._run.id)

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=iteration)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class _Mlflow:
    """Goes on with the same run when a training resumes."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._mlflow: Any = import_module("mlflow")
        earlier = logger_id(folder, "mlflow")
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ and "MLFLOW_EXPERIMENT_ID" not in os.environ:
            self._mlflow.set_experiment(PROJECT)
        run = self._mlflow.start_run(run_id=earlier, run_name=folder.resolve().name)
        if earlier is None:
            settings = list(flat_settings(recipe).items())
            for first in range(0, len(settings), MLFLOW_BATCH):
                self._mlflow.log_params(dict(settings[first : first + MLFLOW_BATCH]))
        remember_logger(folder, "mlflow", run.info.run_id)

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=iteration)

    def close(self, *, failed: bool) -> None:
        self._mlflow.end_run("FAILED" if failed else "FINISHED")


_LOGGERS: dict[str, tuple[str, Callable[[Path, Recipe], Logger]]] = {
    "tensorboard": ("tensorboard", _TensorBoard),
    "wandb": ("wandb", _WeightsAndBiases),
    "mlflow": ("mlflow", _Mlflow),
}
"""The package of each name of `TrainSettings.loggers`, and what opens it."""


def check_loggers(names: Iterable[str]) -> None:
    """Raise ImportError with the install command if the package of a logger is missing."""
    for name in names:
        package, _ = _LOGGERS[name]
        try:
            import_module(package)
        except ImportError as error:
            raise ImportError(
                f"the logger {name} needs the package {package}: pip install {package} ({error})"
            ) from error


def open_logger(name: str, folder: Path, recipe: Recipe) -> Logger:
    """Open a logger for a run's folder.

    Raises:
        ImportError: its package is missing.
        PointRendError: it cannot be used, for instance without a login.
    """
    check_loggers([name])
    _, opened = _LOGGERS[name]
    try:
        return opened(folder, recipe)
    except Exception as error:  # of other packages, each with errors of its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PointRendError(
            f"the logger {name} could not start ({reason}); leave it out, or see how its package is set up"
        ) from error
