"""Checkpoints, from which a stopped training resumes exactly.

There is no random state to save: batches, augmentations and training points depend on the seed and the iteration alone.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pointrend.errors import PointRendError
from pointrend.files import atomic_path

CHECKPOINT_VERSION = 2
"""Version 1 has recipes with other settings."""


class CheckpointError(PointRendError):
    """A checkpoint that cannot be written or resumed from."""


@dataclass
class TrainingState:
    """Everything that changes during training."""

    recipe: str
    """The whole recipe as YAML; resuming with other settings is refused."""
    iteration: int
    """The number of iterations done."""
    best: float
    """The best score so far; -inf before the first evaluation."""
    network: dict[str, Any]
    optimizer: dict[str, Any]
    average: dict[str, Any] | None
    """The state of the averaged weights, if any."""
    version: int = CHECKPOINT_VERSION


def save_checkpoint(path: Path, state: TrainingState) -> None:
    """Write `state` to `path`, atomically; raise `CheckpointError` if that fails, for instance on a full disk."""
    try:
        with atomic_path(path) as temporary:
            torch.save(vars(state), temporary)
    except (OSError, RuntimeError) as error:  # PyTorch raises a RuntimeError on a full disk
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: cannot be written ({reason}); the checkpoint before it is unchanged: make room, and use --resume"
        ) from error


def load_checkpoint(path: Path) -> TrainingState:
    """Read a file written by `save_checkpoint`; nothing but tensors and plain values is unpickled.

    Raises:
        CheckpointError: missing, damaged, not a training checkpoint, or of another version.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint to resume from; start without --resume")
    try:
        fields = torch.load(path, map_location="cpu", weights_only=True)
        version = fields["version"]
        if version != CHECKPOINT_VERSION:
            raise CheckpointError(f"{path}: checkpoint version {version}, this pointrend reads {CHECKPOINT_VERSION}")
        return TrainingState(**fields)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path}: not a training checkpoint, or damaged ({reason})") from error
