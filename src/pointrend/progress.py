"""Progress bars on stderr, shown only if it is a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


def duration(seconds: float) -> str:
    """Return a time as its two largest units: 45 s, 12 min, 2 h 05 min, 3 d 04 h."""
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 24 else f"{hours // 24} d {hours % 24:02d} h"


def speed(images_per_second: float) -> str:
    """Return images per second, or seconds an image where that is below one."""
    if images_per_second >= 1 or images_per_second <= 0:
        return f"{images_per_second:.1f} images/s" if images_per_second > 0 else "-"
    return f"{1 / images_per_second:.1f} s/image"


@contextmanager
def counting(text: str, *, console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function `(name, done, total)` that shows the progress of a job; each name has a bar.

    `text` is a bar's description, with `{}` for the name. The bars are removed at the end.
    """
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def update(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(text.format(name))
            bar.update(tasks[name], completed=done, total=total)

        yield update


class TrainingProgress:
    """A progress bar with loss, accuracy, rate and time left; plain lines if stderr is not a terminal.

    Args:
        total: iterations of the training.
        done: iterations done before.
        line_every: iterations between plain lines.
        enabled: False shows nothing, for processes other than the first.
    """

    def __init__(self, total: int, done: int, *, line_every: int, enabled: bool = True) -> None:
        self._console = Console(stderr=True, quiet=not enabled)
        self._total = total
        self._first = done
        self._line_every = line_every
        self._started = time.monotonic()
        self._bar = Progress(
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            TextColumn("{task.fields[left]}"),  # rich's own forgets iterations of more than 30 s
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=total, completed=done, numbers="", left="")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, iteration: int) -> None:
        """Show that `iteration` iterations are done."""
        self._bar.update(self._task, completed=iteration, left=self._left(iteration))

    def update(self, iteration: int, values: Mapping[str, float]) -> None:
        """Show the numbers after `iteration` iterations."""
        numbers = (
            f"loss {values['loss']:.3f}  point acc {100 * values['point_accuracy']:.1f} %  "
            f"lr {values['lr']:.2e}  {speed(values['images_per_second'])}"
        )
        self._bar.update(self._task, completed=iteration, numbers=numbers, left=self._left(iteration))
        if not self._console.is_terminal and (iteration % self._line_every == 0 or iteration == self._total):
            self.note(f"{iteration}/{self._total}  {numbers}  {self._left(iteration)}")

    def _left(self, iteration: int) -> str:
        """Return the time left, by the mean time of the iterations since the start, evaluations included."""
        done = iteration - self._first
        if done < 1:
            return ""
        elapsed = time.monotonic() - self._started
        return f"{duration(elapsed / done * (self._total - iteration))} left"

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
