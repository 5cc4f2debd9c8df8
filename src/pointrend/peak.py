"""The peak of the memory that a computation takes, of the device or of the process."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

MemoryOf = Literal["device", "process"]


@dataclass(frozen=True)
class Peak:
    """The largest amount of memory that was in use at a time."""

    bytes: int
    of: MemoryOf
    """"device": what PyTorch had allocated on a CUDA device; "process": the resident memory of the whole process."""


def reset_peak(device: torch.device) -> None:
    """Let `peak` count from now on, as far as the system allows: on Linux and on CUDA devices."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # where the system is another, or does not allow it, the peak is that since the start
        Path("/proc/self/clear_refs").write_text("5")


def peak(device: torch.device) -> Peak | None:
    """Return the peak since `reset_peak`: of a CUDA device, else of the process; None where neither can be known."""
    if device.type == "cuda":
        return Peak(torch.cuda.max_memory_allocated(device), "device")
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return Peak(1024 * int(line.split()[1]), "process")
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return Peak(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "process")
