"""Times and memory, and what they depend on."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

PEAK_RESET = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over the repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


def interleaved(
    functions: Mapping[str, Callable[[], object]], *, repeats: int, tick: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of each call, all functions in turn in every repeat, after a first round that does not count.

    A slow moment of the machine then falls on all of them, and ratios within a repeat are fair.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if repeat > 0:
                times[name].append(time.perf_counter() - started)
            tick()
    return times


def ratios(times: Mapping[str, list[float]], of: str, to: str) -> Spread:
    """How many times as long `of` takes as `to`, within the repeats."""
    return Spread.of([a / b for a, b in zip(times[of], times[to], strict=True)])


def peak_bytes(function: Callable[[], object]) -> int | None:
    """The most memory that a call holds above what was held before; None where the system does not tell."""
    try:
        PEAK_RESET.write_text("5")
        before = _status("VmHWM")
        result = function()
        peak = _status("VmHWM") - before
    except (OSError, KeyError, ValueError):
        return None
    del result
    return peak


def _status(name: str) -> int:
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(fields[name].split()[0]) * 1024


def environment() -> dict[str, object]:
    """What a time depends on."""
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": processor(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("pointrend", "torch", "torchvision", "timm", "numpy")},
        "commit": commit(),
    }


def processor() -> str:
    """The processor's name as Linux tells it, else as Python does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """The checkout's commit, with a plus where files differ from it; None without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
