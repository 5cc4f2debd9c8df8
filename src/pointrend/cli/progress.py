"""Progress bars of commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pointrend.data import SampleSet

Progress = Callable[[int, int], None]
"""Called with the number of items that are done and their total."""


@contextmanager
def checked(samples: SampleSet, *, quiet: bool = False) -> Iterator[Callable[[str], Progress]]:
    """Check the files, and yield a function that returns the progress bar of a name."""
    from rich.console import Console

    from pointrend.data import ensure_sound
    from pointrend.progress import counting

    with counting("{}", console=Console(stderr=True, quiet=quiet)) as progress:
        ensure_sound(samples, progress=lambda done, total: progress("checking files", done, total))
        yield lambda name: lambda done, total: progress(name, done, total)


@contextmanager
def progressing(name: str) -> Iterator[Progress]:
    """Yield a function that shows the progress of a job."""
    from rich.console import Console

    from pointrend.progress import counting

    with counting("{}", console=Console(stderr=True)) as progress:
        yield lambda done, total: progress(name, done, total)
