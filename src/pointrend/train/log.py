"""Where a training's numbers go: TensorBoard, CSV, and the terminal."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class RunLog:
    """Appends numbers by iteration to `log.csv` (iteration, name, value) and to TensorBoard files in a folder."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._tensorboard = SummaryWriter(str(folder / "tensorboard"))
        path = folder / "log.csv"
        new = not path.exists()
        self._file = path.open("a", newline="")
        self._csv = csv.writer(self._file)
        if new:
            self._csv.writerow(("iteration", "name", "value"))

    def write(self, iteration: int, values: Mapping[str, float]) -> None:
        """Record values; a resumed run appends."""
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, iteration)
            self._csv.writerow((iteration, name, f"{value:.6g}"))
        self._file.flush()

    def close(self) -> None:
        self._tensorboard.close()
        self._file.close()


class TrainingProgress:
    """A bar with loss, accuracy, rate and time left; plain lines where the output is not a terminal."""

    def __init__(self, total: int, done: int, *, log_every: int, enabled: bool = True) -> None:
        self._console = Console(stderr=True)
        self._total = total
        self._first = done
        self._log_every = log_every
        self._enabled = enabled
        self._started = time.monotonic()
        self._bar: Progress | None = None
        if enabled and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task("train", total=total, completed=done, numbers="")

    def __enter__(self) -> TrainingProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, iteration: int, values: Mapping[str, float]) -> None:
        """Show the newest numbers: `iteration` iterations are done."""
        if not self._enabled:
            return
        numbers = (
            f"loss {values['loss']:.3f}  point acc {100 * values['point_accuracy']:.1f} %  "
            f"lr {values['lr']:.2e}  {values['images_per_second']:.1f} images/s"
        )
        if self._bar:
            self._bar.update(self._task, completed=iteration, numbers=numbers)
        elif iteration % (10 * self._log_every) == 0 or iteration == self._total:
            elapsed = time.monotonic() - self._started
            left = elapsed / max(1, iteration - self._first) * (self._total - iteration)
            self.note(f"{iteration}/{self._total}  {numbers}  {left / 60:.0f} min left")

    def note(self, line: str) -> None:
        """A line above the bar."""
        if self._enabled:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
