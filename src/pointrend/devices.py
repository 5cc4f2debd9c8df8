"""Devices that are available on this machine."""

from __future__ import annotations

import os

import torch

from pointrend.errors import PointRendError, warn


def available_device(device: torch.device | str) -> torch.device:
    """Return the device after creating a tensor on it.

    Raises:
        PointRendError: not the name of a device, or one that this machine or this PyTorch does not support.
    """
    try:
        result = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise PointRendError(f"{device!r} is not a device; expected {_examples()}") from error
    try:
        if result.type == "meta":  # its tensors have no values
            raise NotImplementedError
        torch.zeros(1, device=result).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise PointRendError(f"the device {str(result)!r} is not available here; expected {_examples()}") from error
    return result


def _examples() -> str:
    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return " or ".join(names)


_predicted_in: int | None = None
"""The process that predicted first."""


def ready_after_fork() -> None:
    """Make PyTorch compute on one thread in a process that was forked from one that had predicted.

    The threads of the other process do not exist here, and PyTorch would wait for them for ever. A warning says so.
    """
    global _predicted_in
    if _predicted_in is None:
        _predicted_in = os.getpid()
    elif _predicted_in != os.getpid():
        _predicted_in = os.getpid()
        torch.set_num_threads(1)
        warn(
            "this process was forked from one that had predicted, and computes on one thread; start processes by "
            "spawn (multiprocessing.get_context('spawn')) for more"
        )


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
