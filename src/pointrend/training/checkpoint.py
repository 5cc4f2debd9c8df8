"""Checkpoints, from which a stopped training resumes exactly.

There is no random state to save: batches, augmentations and training points depend on the seed and the iteration alone.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from pointrend.errors import PointRendError, shown, warn
from pointrend.files import atomic_path
from pointrend.zoo.reading import CheckpointFileError, read_saved

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
    processes: int = 1
    """The number of processes that trained."""
    precision: dict[str, Any] = field(default_factory=dict)
    """The state of mixed precision: of 16-mixed, the scale of the gradients."""
    owed: dict[str, float] | None = None
    """The numbers of the last iteration, if SIGTERM came before its evaluation, which is then still to be done."""
    version: int = CHECKPOINT_VERSION


def earlier(path: Path) -> list[Path]:
    """Return the checkpoints before the one at `path`, the newest first: last-1.pt, last-2.pt, ... of last.pt."""
    pattern = f"{path.stem}-*{path.suffix}"
    named = {other.stem.removeprefix(f"{path.stem}-"): other for other in path.parent.glob(pattern)}
    return [named[number] for number in sorted(filter(str.isdecimal, named), key=int)]


def save_checkpoint(path: Path, state: TrainingState, *, keep: int = 1) -> None:
    """Write `state` to `path`, atomically, and keep the `keep` - 1 checkpoints before it, see `earlier`.

    Raises:
        CheckpointError: that fails, for instance on a full disk; the checkpoints before it are unchanged.
    """
    try:
        with atomic_path(path) as temporary:
            torch.save(vars(state), temporary)
            if keep > 1 and path.exists():
                _number(path, keep)
        for old in earlier(path)[keep - 1 :]:
            old.unlink()
    except (OSError, RuntimeError) as error:  # PyTorch raises a RuntimeError on a full disk
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: cannot be written ({reason}); the checkpoint before it is unchanged: make room, and use --resume"
        ) from error


def _number(path: Path, keep: int) -> None:
    """Give the checkpoint at `path` the name last-1.pt too, after those before it moved on by one."""
    for number in range(keep - 1, 1, -1):
        one = path.with_stem(f"{path.stem}-{number - 1}")
        if one.exists():
            one.replace(path.with_stem(f"{path.stem}-{number}"))
    with atomic_path(path.with_stem(f"{path.stem}-1")) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:  # not every file system has links
            shutil.copyfile(path, temporary)


def load_newest(path: Path, *, set_aside: bool = True) -> TrainingState:
    """Read the checkpoint at `path`, or, if it is damaged or missing, the newest one before it, with a warning.

    A damaged one at `path` gets another name if `set_aside`; of several processes, one does so.

    Raises:
        CheckpointError: none can be read.
    """
    first: CheckpointError | None = None
    for candidate in (path, *earlier(path)):
        try:
            state = load_checkpoint(candidate)
        except CheckpointError as error:
            first = first or error
            continue
        if first is not None:
            warn(f"{first}; the training goes on from {candidate.name}, after {state.iteration} iterations")
            if set_aside and path.exists():  # so that it does not take the place of a good one
                path.replace(path.with_name(f"{path.name}.damaged"))
        return state
    assert first is not None
    raise first


def load_checkpoint(path: Path) -> TrainingState:
    """Read a file written by `save_checkpoint`; nothing but tensors and plain values is unpickled.

    Raises:
        CheckpointError: missing, damaged, not a training checkpoint, or of another version.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint to resume from; start without --resume")
    try:
        fields = read_saved(path)
    except CheckpointFileError as error:
        raise _unusable(path, str(error).removeprefix(f"{path}: ")) from error
    version = fields.get("version") if isinstance(fields, dict) else None
    if version is None:
        raise _unusable(path, "it has no version")
    if version != CHECKPOINT_VERSION:
        raise CheckpointError(f"{path}: checkpoint version {shown(version)}, this pointrend reads {CHECKPOINT_VERSION}")
    fields = {"processes": 1, "precision": {}, "owed": None} | fields  # which older files lack
    for name, kinds in _KINDS.items():
        if name not in fields:
            raise _unusable(path, f"it has no {name}")
        if not isinstance(fields[name], kinds) or isinstance(fields[name], bool):
            raise _unusable(path, f"its {name} is a {type(fields[name]).__name__}")
    if unknown := [name for name in fields if name not in _KINDS]:
        raise _unusable(path, f"it has {shown(unknown[0])}, which is unknown")
    if fields["iteration"] < 0:
        raise _unusable(path, f"its iteration is {shown(fields['iteration'])}")
    for name in ("network", "average"):
        if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in (fields[name] or {}).items()):
            raise _unusable(path, f"its {name} holds something else than tensors by name")
    return TrainingState(**fields)


_KINDS: dict[str, tuple[type, ...]] = {
    "recipe": (str,),
    "iteration": (int,),
    "best": (float, int),
    "network": (dict,),
    "optimizer": (dict,),
    "average": (dict, NoneType),
    "processes": (int,),
    "precision": (dict,),
    "owed": (dict, NoneType),
    "version": (int,),
}
"""The types of the fields of a `TrainingState`."""


def _unusable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: not a training checkpoint, or damaged ({reason})")
