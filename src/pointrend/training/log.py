"""The log of a training: `log.csv`, with a row per iteration, and TensorBoard files, by Fabric's loggers."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping
from pathlib import Path

from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor

LOG_FILE = "log.csv"
STEP = "step"
"""Fabric's name of the column with the iteration."""


class RunLog:
    """The log in a run's folder. Rows of an existing log after `iteration`, where a training resumes, are dropped."""

    def __init__(self, folder: Path, *, iteration: int = 0) -> None:
        self._csv = CSVLogger(folder, name="", version="")
        self._tensorboard = TensorBoardLogger(folder, name="tensorboard", version="")
        with warnings.catch_warnings():  # the folder is not empty: it has the recipe
            warnings.simplefilter("ignore")
            writer = self._csv.experiment
        path = folder / LOG_FILE
        writer.metrics_file_path = str(path)
        # The logger starts a new file, so the rows before the resumption are written again.
        earlier = [row for row in _rows(path) if int(row[STEP]) <= iteration]
        path.unlink(missing_ok=True)
        for row in earlier:
            values: dict[str, Tensor | float] = {k: float(value) for k, value in row.items() if k != STEP and value}
            self._csv.log_metrics(values, int(row[STEP]))
        self._csv.save()

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        """Record the numbers of an iteration."""
        rounded: dict[str, Tensor | float] = {name: float(f"{value:.6g}") for name, value in values.items()}
        self._csv.log_metrics(rounded, iteration)
        self._csv.save()
        self._tensorboard.log_metrics(dict(values), iteration)

    def close(self) -> None:
        """Flush and close the files."""
        self._csv.finalize("success")
        self._tensorboard.finalize("success")


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if (row.get(STEP) or "").isdecimal()]
