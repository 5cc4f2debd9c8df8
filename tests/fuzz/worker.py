"""The process that tries cases, and the loop around it."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LIMIT = 10.0
"""Seconds that a case may take."""
STARTING = 120.0
"""Seconds that a new process may take to import the package and to make the whole files."""
MEMORY = 6 * 2**30
"""Bytes of address space that a case may use beyond what the libraries take."""


def serve(pipe: Connection, seed: int) -> None:
    """Try the cases that come through the pipe."""
    from tests.fuzz import cases

    torch_threads()
    cases.images(), cases.recipes(), cases.checkpoints()
    limit_memory()
    pipe.send("ready")
    while (job := pipe.recv()) is not None:
        kind, number, folder = job
        pipe.send(cases.run(kind, number, seed, folder))


def torch_threads() -> None:
    """Use one thread: cases are small."""
    import torch

    torch.set_num_threads(1)


def limit_memory() -> None:
    """Let the system refuse memory instead of ending other processes."""
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    except (ImportError, OSError, ValueError):
        return


class Worker:
    """A process that tries cases, started anew after one that did not end."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=serve, args=(theirs, self._seed), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(STARTING) or self._pipe.recv() != "ready":
            raise RuntimeError("the process that tries cases did not start")

    def try_case(self, kind: str, number: int, folder: Path) -> str | None:
        """Return what is wrong with a case."""
        self._pipe.send((kind, number, folder))
        try:
            if self._pipe.poll(LIMIT):
                found: str | None = self._pipe.recv()
                return found
            reason = f"took more than {LIMIT:.0f} seconds"
        except EOFError:
            reason = "ended the process"
        self.stop()
        self._start()
        return reason

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def jobs(counts: dict[str, int]) -> Iterator[tuple[str, int]]:
    """All cases, kind by kind."""
    for kind, count in counts.items():
        for number in range(count):
            yield kind, number


def fuzz(
    counts: dict[str, int], seed: int, out: Path, *, seconds: float | None = None, quiet: bool = False
) -> list[str]:
    """Try so many cases of each kind, and return what is wrong, a line each; bad files are kept in `out`."""
    worker = Worker(seed)
    failures: list[str] = []
    seen: Counter[str] = Counter()
    end = None if seconds is None else time.monotonic() + seconds
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, disable=quiet) as progress:
            task = progress.add_task("fuzzing", total=sum(counts.values()))
            for kind, number in jobs(counts):
                if end is not None and time.monotonic() > end:
                    break
                with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
                    folder = Path(name)
                    found = worker.try_case(kind, number, folder)
                    if found is not None:
                        failures.append(f"{kind} {number}: {found}")
                        seen[kind] += 1
                        if seen[kind] <= 50:
                            kept = out / f"{kind}-{seed}-{number}"
                            shutil.rmtree(kept, ignore_errors=True)
                            shutil.copytree(folder, kept)
                progress.update(task, advance=1, description=f"{kind}, {len(failures)} failed")
    finally:
        worker.stop()
    return failures
