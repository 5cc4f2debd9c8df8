"""SIGTERM, by which clusters announce that they take a machine away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pointrend.processes import mean_over_processes


@contextmanager
def sigterm_noticed(device: torch.device) -> Iterator[Callable[[], bool]]:
    """Let SIGTERM stop a training after its iteration: yield what tells whether any process was sent one.

    All processes must ask at the same iterations. Outside of the main thread, SIGTERM does what it did.
    """
    sent = False

    def notice(*_: Any) -> None:
        nonlocal sent
        sent = True

    def asked() -> bool:
        return bool(mean_over_processes(torch.tensor(float(sent), device=device)) > 0)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, notice)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
