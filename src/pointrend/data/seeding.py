"""Random choices that depend on a seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Seed torch's global generator, and put it back afterwards."""
    # Only the CPU's generator: torch.manual_seed would also reset those of the GPUs and leave them so.
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(state)
