"""Processing of many files, where reading and writing overlap with computing."""

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
"""The maximum number of files read ahead, and of results waiting to be written; each may take 100 MB."""
# torch raises RuntimeError.
FAILURES = (ValueError, OSError, MemoryError, RuntimeError)


def overlapped(
    jobs: Sequence[Job],
    read: Callable[[Job], Read],
    compute: Callable[[Job, Read], Callable[[], Written]],
) -> Iterator[tuple[Job, Written | Exception]]:
    """Run jobs in three stages: read and write each in a thread, beside compute in the calling thread.

    Args:
        jobs: the arguments of `read` and `compute`.
        read: the first stage.
        compute: the second stage, which returns the third stage as a function.

    Yields:
        Each job in order with the third stage's result, or with the ValueError, OSError, MemoryError or RuntimeError
        that one of its stages raised. Other errors are raised.
    """
    waiting = iter(jobs)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead = deque((job, reader.submit(read, job)) for job in islice(waiting, AHEAD))
        behind: deque[tuple[Job, Future[Written] | Exception]] = deque()
        while ahead:
            job, content = ahead.popleft()
            writing: Future[Written] | Exception
            result: Written | Exception
            try:
                writing = writer.submit(compute(job, content.result()))
            except FAILURES as error:
                writing = error
            ahead.extend((following, reader.submit(read, following)) for following in islice(waiting, 1))
            behind.append((job, writing))
            while len(behind) > AHEAD or (behind and not ahead):
                job, writing = behind.popleft()
                try:
                    result = writing if isinstance(writing, Exception) else writing.result()
                except FAILURES as error:
                    result = error
                yield job, result
