"""Logits in whatever a host returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from pointrend.errors import PointRendError

LOGITS = ("logits", "out", "pred", "prediction", "masks", "seg", "semseg")
"""Names under which hosts return their logits, the likeliest first."""
AUXILIARY = ("aux", "aux_logits", "auxiliary_logits")


def logits_of(output: Any, num_classes: int | None = None) -> Tensor:
    """Return the map of logits (N, C, h, w) in a host's output: a tensor, or one in a dict, a tuple or a dataclass.

    Args:
        output: what the host returned.
        num_classes: C, which decides between several maps; None takes the first.

    Raises:
        PointRendError: there is no map, or none with C channels.
    """
    found = [(name, value) for name, value in _members(output) if isinstance(value, Tensor) and value.ndim == 4]
    if num_classes is not None:
        fitting = [pair for pair in found if pair[1].shape[1] == num_classes]
    else:
        fitting = [pair for pair in found if pair[0] not in AUXILIARY]
    if fitting:
        return min(fitting, key=lambda pair: LOGITS.index(pair[0]) if pair[0] in LOGITS else len(LOGITS))[1]
    if found:
        shapes = ", ".join(f"{name or 'the output'} {tuple(value.shape)}" for name, value in found)
        raise PointRendError(f"the host gives no logits of {num_classes} classes, but {shapes}; give num_classes")
    raise PointRendError(
        "the host must return logits (N, C, h, w), in a tensor, a dict, a tuple or a dataclass; "
        f"got {_described(output)}"
    )


def _members(output: Any) -> list[tuple[str, Any]]:
    if isinstance(output, Tensor):
        return [("", output)]
    if isinstance(output, Mapping):  # transformers' outputs too
        return [(str(name), value) for name, value in output.items()]
    if is_dataclass(output) and not isinstance(output, type):
        return [(field.name, getattr(output, field.name)) for field in fields(output)]
    if isinstance(output, Sequence) and not isinstance(output, str):
        return [(str(index), value) for index, value in enumerate(output)]
    return []


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)}"
    members = ", ".join(f"{name}: {type(value).__name__}" for name, value in _members(output)[:6])
    return f"{type(output).__name__}{f' ({members})' if members else ''}"
