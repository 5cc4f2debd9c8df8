"""What a network takes of another model's weights: all that fits, and of the layers of classes those of equal names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TakenPart:
    """What a part of a network starts from."""

    part: str
    """The name of the part, such as "backbone"."""
    taken: int
    """Tensors that are taken whole."""
    by_class: int
    """Tensors that are taken for the classes of equal names, and new for the others."""
    new: int
    why: str
    """Why tensors are new."""


@dataclass(frozen=True)
class _Layer:
    """Where the classes lie in the tensors of a layer."""

    pattern: str
    rows: int | None
    """The number of rows before those of the first class, relative to those of a class; None: rows are of no class."""
    columns: bool
    """The last columns of a weight are of the classes' coarse logits."""


_LAYERS = (
    _Layer(r"^box_predictor\.(cls_score|bbox_pred)\.(weight|bias)$", rows=1, columns=False),  # the background is first
    _Layer(r"(^|\.)coarse_head\.classifier\.(weight|bias)$", rows=0, columns=False),
    _Layer(r"(^|\.)point_head\.classifier\.(weight|bias)$", rows=0, columns=True),
    _Layer(r"(^|\.)point_head\.layers\.\d+\.weight$", rows=None, columns=True),
)


def take_weights(
    network: nn.Module,
    given: Mapping[str, Tensor],
    classes: Sequence[str],
    given_classes: Sequence[str],
    logits: tuple[int, int],
) -> list[TakenPart]:
    """Load into a network what fits of other weights.

    Tensors are taken where name and shape are equal. In layers of classes, which are those of the logits, and the
    columns of the point head that read coarse logits, classes are found by their names; the others stay new, and the
    point head ignores their coarse logits at first.

    Args:
        network: changed in place.
        given: weights of a network of the same kind.
        classes: the network's.
        given_classes: those of the weights.
        logits: the number of logits of the network, and of the weights; 1 for two classes of a label map.

    Returns:
        A row a part, of which the first tensors' reason is given.
    """
    own = network.state_dict()
    pairs = _pairs(classes, given_classes, logits)
    same = list(classes) == list(given_classes)
    loaded: dict[str, Tensor] = {}
    kinds: dict[str, list[str]] = {}
    for name, tensor in own.items():
        part = name.split(".")[0]
        other = given.get(name)
        layer = next((layer for layer in _LAYERS if re.search(layer.pattern, name)), None)
        if other is None:
            kind = "it has no such tensor"
        elif layer is not None and not same and not (layer.rows is None and 1 in logits):
            merged = _merged(tensor, other, layer, pairs, logits)
            kind = "no class has the name" if merged is None else "by class"
            if merged is not None:
                loaded[name] = merged
        elif other.shape == tensor.shape:
            loaded[name], kind = other, "taken"
        else:
            kind = f"{_shape(other)} is not {_shape(tensor)}"
        kinds.setdefault(part, []).append(kind)
    network.load_state_dict(loaded, strict=False)
    return [_row(part, of_part) for part, of_part in kinds.items()]


def _row(part: str, kinds: list[str]) -> TakenPart:
    reasons = [kind for kind in kinds if kind not in ("taken", "by class")]
    return TakenPart(part, kinds.count("taken"), kinds.count("by class"), len(reasons), reasons[0] if reasons else "")


def _pairs(classes: Sequence[str], given: Sequence[str], logits: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the (logit, given logit) of classes of equal names; one logit of two classes has none."""
    if 1 in logits and len(classes) != 1:
        return []
    where = {name.casefold(): index for index, name in enumerate(given)}
    return [(index, where[name.casefold()]) for index, name in enumerate(classes) if name.casefold() in where]


def _merged(
    own: Tensor, given: Tensor, layer: _Layer, pairs: list[tuple[int, int]], logits: tuple[int, int]
) -> Tensor | None:
    """Return a tensor of the network's shape with what both have: the classes in `pairs`, and all that is of no class.

    None if that is nothing, or if the tensors differ in more than the number of classes.
    """
    columns = layer.columns and own.ndim > 1
    if own.ndim != given.ndim or own.shape[2:] != given.shape[2:]:
        return None
    rows = _indices(own.shape[0], given.shape[0], logits, pairs, layer.rows)
    lead = own.shape[1] - logits[0] if columns else None
    across = _indices(own.shape[1], given.shape[1], logits, pairs, lead) if own.ndim > 1 else ([0], [0])
    if rows is None or across is None or (layer.rows is not None and not pairs):
        return None
    merged = own.clone()
    if own.ndim == 1:
        merged[rows[0]] = given[rows[1]]
        return merged
    if columns:
        merged[rows[0], own.shape[1] - logits[0] :] = 0  # a class that is new is not listened to
    merged[torch.tensor(rows[0])[:, None], across[0]] = given[torch.tensor(rows[1])[:, None], across[1]]
    return merged


def _indices(
    own: int, given: int, logits: tuple[int, int], pairs: list[tuple[int, int]], lead: int | None
) -> tuple[list[int], list[int]] | None:
    """Return the indices along an axis that both tensors have, in each; None if they do not fit.

    Args:
        own, given: lengths of the axis.
        logits, pairs: see `_pairs`.
        lead: how much stands before the first class, relative to the length of a class; None: the axis has no classes.
    """
    if lead is None:
        return (list(range(own)), list(range(given))) if own == given else None
    size, other = own // (logits[0] + lead), given // (logits[1] + lead)
    if size != other or size == 0 or own != size * (logits[0] + lead) or given != size * (logits[1] + lead):
        return None
    before = list(range(lead * size))
    return (
        before + [(lead + at) * size + step for at, _ in pairs for step in range(size)],
        before + [(lead + at) * size + step for _, at in pairs for step in range(size)],
    )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
