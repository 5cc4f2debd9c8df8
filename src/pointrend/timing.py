"""Comparison of the run times of functions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The median and the quartiles of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Return the spread of one or more values."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    tick: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of each call by a clock; every repeat calls all functions once, after a warm-up round.

    Interleaved, a slow moment of the machine affects all functions, so that ratios within a repeat are fair.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            started = clock()
            function()
            if repeat > 0:
                times[name].append(clock() - started)
            tick()
    return times


def ratios(times: Mapping[str, list[float]], of: str, to: str) -> Spread:
    """Return the ratios of the seconds of `of` to those of `to`, repeat by repeat."""
    return Spread.of([a / b for a, b in zip(times[of], times[to], strict=True)])
