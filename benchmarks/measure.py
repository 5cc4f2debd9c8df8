"""Peak memory, and what a time depends on. Times are taken by `pointrend.timing.interleaved`.

`torch.utils.benchmark` measures one statement after another: a slow moment of the machine would fall on one of them
alone, and the ratio of two would be wrong.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import torch

PEAK_RESET = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


def peak_bytes(function: Callable[[], object]) -> int | None:
    """Return the largest amount of memory that a call holds above what was held before; None where it is not known."""
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
    """Return what a time depends on."""
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
    """Return the processor's name as Linux reports it, else as Python does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """Return the checkout's commit, with a plus where files differ from it; None without git."""
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
