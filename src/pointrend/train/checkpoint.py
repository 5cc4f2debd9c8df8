"""What a stopped training needs to go on exactly, in one file that is written atomically.

Batches, augmentations and training points depend on the seed and the iteration alone: there is no random state
to keep.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pointrend.files import atomic_path

CHECKPOINT_VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be resumed from; the message is one line."""


@dataclass
class TrainingState:
    """Everything that changes while training."""

    recipe: str
    """The whole recipe as YAML, to refuse a resumption with other settings."""
    iteration: int
    """The iterations that are done."""
    best: float
    """The best score so far; -inf before the first evaluation."""
    network: dict[str, Any]
    optimizer: dict[str, Any]
    average: dict[str, Any] | None
    """The averaged weights' state, when they are averaged."""
    version: int = CHECKPOINT_VERSION


def save_checkpoint(path: Path, state: TrainingState) -> None:
    """Write `state` to `path`, atomically."""
    fields = {key: getattr(state, key) for key in TrainingState.__dataclass_fields__}
    with atomic_path(path) as temporary:
        torch.save(fields, temporary)


def load_checkpoint(path: Path) -> TrainingState:
    """Read what `save_checkpoint` wrote; only tensors and plain values are ever built.

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
