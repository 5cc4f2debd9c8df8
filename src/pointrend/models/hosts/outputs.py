"""Logits in whatever a host returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from pointrend.errors import PointRendError

LOGITS = ("logits", "out", "pred", "prediction", "masks", "seg", "semseg")
"""Names under which hosts return their logits, the likeliest first."""
AUXILIARY = ("aux", "aux_logits", "auxiliary_logits")
QUERIES = ("class_queries_logits", "masks_queries_logits")
"""What networks of masks by queries return (MaskFormer, Mask2Former): the class and the mask of each query."""


def logits_of(output: Any, num_classes: int | None = None) -> Tensor:
    """Return the map of logits (N, C, h, w) in a host's output: a tensor, or one in a dict, a tuple or a dataclass.

    Of masks by queries logits are made, see `logits_of_queries`.

    Args:
        output: what the host returned.
        num_classes: C, which decides between several maps; None takes the first.

    Raises:
        PointRendError: there is no map, or none with C channels.
    """
    named = dict(members(output))
    if all(isinstance(named.get(name), Tensor) for name in QUERIES):
        named = {"logits": logits_of_queries(*(named[name] for name in QUERIES))}
    found = [(name, value) for name, value in named.items() if isinstance(value, Tensor) and value.ndim == 4]
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


def logits_of_queries(classes: Tensor, masks: Tensor) -> Tensor:
    """Return logits (N, C, h, w) of masks by queries: the logarithm of the semantic scores of Mask2Former.

    The score of a class at a pixel is the sum over queries of the probability of the class (of C classes and none)
    times that of the mask (arXiv 2112.01527, and `post_process_semantic_segmentation` of transformers). The best class
    is that of the scores; the softmax of the logits is the scores divided by their sum, which cross entropy trains.

    Args:
        classes: logits (N, Q, C + 1) of each query's class, the last of which is none.
        masks: logits (N, Q, h, w) of each query's mask.
    """
    probabilities = classes.float().softmax(dim=2)[..., :-1]
    scores = torch.einsum("nqc,nqhw->nchw", probabilities, masks.float().sigmoid())
    return scores.clamp(min=torch.finfo(torch.float32).tiny).log()


def members(output: Any) -> list[tuple[str, Any]]:
    """Return the values in a host's output with their names; of a tuple, their numbers."""
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
    listed = ", ".join(f"{name}: {type(value).__name__}" for name, value in members(output)[:6])
    return f"{type(output).__name__}{f' ({listed})' if listed else ''}"
