"""Stages beside each other, in order, with every failure where it belongs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pointrend.overlap import AHEAD, overlapped


def failing(job: int, stage: str, failures: dict[int, str]) -> None:
    if failures.get(job) == stage:
        raise ValueError(f"{stage} {job}")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_all_jobs_in_order_whatever_fails(count: int) -> None:
    failures = {1: "read", 3: "compute", 4: "write", 9: "write"}

    def read(job: int) -> int:
        failing(job, "read", failures)
        return job * 10

    def compute(job: int, content: int) -> Callable[[], int]:
        failing(job, "compute", failures)

        def write() -> int:
            failing(job, "write", failures)
            return content + 1

        return write

    found = list(overlapped(list(range(count)), read, compute))
    assert [job for job, _ in found] == list(range(count))
    for job, made in found:
        if job in failures:
            assert str(made) == f"{failures[job]} {job}"
        else:
            assert made == job * 10 + 1


def test_what_is_in_memory_is_bounded_and_stages_run_beside_each_other() -> None:
    lock, alive, most, threads = threading.Lock(), 0, 0, set()

    def read(job: int) -> int:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        threads.add(("read", threading.get_ident()))
        return job

    def compute(job: int, content: int) -> Callable[[], None]:
        threads.add(("compute", threading.get_ident()))

        def write() -> None:
            nonlocal alive
            threads.add(("write", threading.get_ident()))
            with lock:
                alive -= 1

        return write

    assert len(list(overlapped(list(range(50)), read, compute))) == 50
    assert len({ident for _, ident in threads}) == len(threads) == 3
    assert most <= 2 * AHEAD + 2


def test_bugs_are_not_hidden() -> None:
    def read(job: int) -> int:
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        list(overlapped([1, 2], read, lambda job, content: lambda: None))
