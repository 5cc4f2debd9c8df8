"""Progress bars for the commands, on stderr and only where it is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@contextmanager
def counting(text: str, *, console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows how far each of several named jobs is: `(name, done, total)`.

    `text` describes a job, with `{}` for its name. The bars are removed at the end.
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
