"""The log of a training: `log.csv`, with a row an iteration, by Fabric's logger, and what other loggers take."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lightning_fabric.loggers.csv_logs import CSVLogger
from torch import Tensor

from pointrend.errors import PointRendError, shown
from pointrend.files import atomic_path
from pointrend.recipes import Recipe
from pointrend.training.loggers import Logger, open_logger

LOG_FILE = "log.csv"
STEP = "step"
"""Fabric's name of the column with the iteration."""
SCORE = "val/score"
"""The column of the score that the best model is chosen by."""


class LogError(PointRendError):
    """A log that cannot be read."""


class RunLog:
    """The log in a run's folder. Rows of an existing log after `iteration`, where a training resumes, are dropped.

    Raises:
        LogError: the existing log is damaged.
        PointRendError, ImportError: a logger that the recipe names cannot be used.
    """

    def __init__(self, folder: Path, recipe: Recipe, *, iteration: int = 0) -> None:
        path = folder / LOG_FILE
        # Fabric's logger starts a new file, so the rows before the resumption are written again.
        earlier = [row for row in read_log(path) if row[STEP] <= iteration]
        self._csv = CSVLogger(folder, name="", version="")
        with warnings.catch_warnings():  # the folder is not empty: it has the recipe
            warnings.simplefilter("ignore")
            writer = self._csv.experiment
        writer.metrics_keys = _StepFirst()
        if earlier:
            with atomic_path(path) as temporary:
                temporary.unlink()  # the logger would go on with an empty file, without a header
                writer.metrics_file_path = str(temporary)
                for row in earlier:
                    values: dict[str, Tensor | float] = {name: value for name, value in row.items() if name != STEP}
                    self._csv.log_metrics(values, int(row[STEP]))
                self._csv.save()
        else:
            path.unlink(missing_ok=True)
        writer.metrics_file_path = str(path)
        self._others: list[Logger] = []
        with ExitStack() as undo:
            for name in recipe.train.loggers:
                self._others.append(open_logger(name, folder, recipe))
                undo.callback(self._others[-1].close, failed=True)
            undo.pop_all()

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        """Record the numbers of an iteration."""
        rounded: dict[str, Tensor | float] = {name: float(f"{value:.6g}") for name, value in values.items()}
        self._csv.log_metrics(rounded, iteration)
        self._csv.save()
        for logger in self._others:
            logger.write(iteration, values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and close the files; other loggers are told if the training failed."""
        self._csv.finalize("success")
        for logger in self._others:
            logger.close(failed=kind is not None)


class _StepFirst(list[str]):
    """Names of columns, which the logger sorts: the iteration comes first."""

    def sort(self, **_: Any) -> None:
        super().sort(key=lambda name: (name != STEP, name))


def read_log(path: Path) -> list[dict[str, float]]:
    """Return the rows of a log, each with the numbers that it has and with `STEP`; none if there is no file.

    A last line without an end, as a killed training leaves it, is left out.

    Raises:
        LogError: the file is damaged; one line that says where.
    """
    if not path.is_file():
        return []
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise LogError(f"{path}: expected a log as train writes it, got bytes that are no text") from error
    whole, _, _ = text.rpartition("\n")
    reader = csv.reader(whole.splitlines())
    rows: list[dict[str, float]] = []
    try:
        header = next(reader, [])
        if whole and STEP not in header:
            raise LogError(f"{path}: expected a log as train writes it, got no column {STEP!r}")
        for line in reader:
            if len(line) != len(header):
                raise LogError(f"{path}: damaged at line {reader.line_num}: {len(line)} of {len(header)} columns")
            row = {name: float(value) for name, value in zip(header, line, strict=True) if value}
            if not row.get(STEP, -1.0).is_integer() or row.get(STEP, -1.0) < 0:
                raise LogError(f"{path}: damaged at line {reader.line_num}: no iteration")
            rows.append(row)
    except (csv.Error, ValueError) as error:
        if isinstance(error, LogError):
            raise
        raise LogError(f"{path}: damaged at line {reader.line_num}: {shown(str(error))}") from error
    return rows
