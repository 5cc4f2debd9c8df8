"""Many files in turn: the next ones are read and the last ones written while one is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Job = TypeVar("Job")
Read = TypeVar("Read")
Written = TypeVar("Written")

AHEAD = 2
"""Files that are read, and files that wait to be written, at most: each may take 100 MB."""
# RuntimeError is what torch raises: one photograph must not end the others.
FAILURES = (ValueError, OSError, MemoryError, RuntimeError)


def overlapped(
    jobs: Sequence[Job],
    read: Callable[[Job], Read],
    compute: Callable[[Job, Read], Callable[[], Written]],
) -> Iterator[tuple[Job, Written | Exception]]:
    """Do jobs in three stages; the first and the last run beside the second, in a thread each.

    Args:
        jobs: what is to be done.
        read: the first stage.
        compute: the second; what it returns is called as the third.

    Yields:
        Each job in order, with what was written, or the error that ended it: a ValueError, OSError, MemoryError or
        RuntimeError. Others end everything.
    """
    waiting = iter(jobs)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = deque((job, reader.submit(read, job)) for job in islice(waiting, AHEAD))
        behind: deque[tuple[Job, Future[Written] | Exception]] = deque()
        while ahead:
            job, content = ahead.popleft()
            made: Future[Written] | Exception
            finished: Written | Exception
            try:
                made = writer.submit(compute(job, content.result()))
            except FAILURES as error:
                made = error
            ahead.extend((following, reader.submit(read, following)) for following in islice(waiting, 1))
            behind.append((job, made))
            while len(behind) > AHEAD or (behind and not ahead):
                job, made = behind.popleft()
                try:
                    finished = made if isinstance(made, Exception) else made.result()
                except FAILURES as error:
                    finished = error
                yield job, finished
