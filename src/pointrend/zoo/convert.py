"""Published checkpoints as models of ours: every tensor is used exactly once, or deliberately ignored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.modelfile import Model, expected_shapes, model_of, network_of, shown
from pointrend.zoo.reading import CheckpointFileError, read_tensors
from pointrend.zoo.rules import RULES, current_name, our_name, our_value

__all__ = [
    "MismatchError",
    "current_name",
    "identify",
    "our_name",
    "read_published",
    "recognise",
    "to_model",
]

Shapes = Mapping[str, tuple[int, ...]]
LISTED = 8
"""Lines of a diff that are shown."""

IGNORED = re.compile(r"(.+\.)?(pixel_mean|pixel_std|cell_anchors(\.\d+)?|anchor_generator\.cell_anchors\.\d+)")
"""Constants that detectron2 stores with the weights; ours are in the model's `InputSpec`."""

COUNTER = "num_batches_tracked"
"""Batch norm's count of batches, which frozen norms do not have and prediction does not read."""

CLASSIFIERS = ("point_head.classifier.bias", "mask_head.point_head.classifier.bias")
"""What has a number for each class, in a model of either task."""


class MismatchError(CheckpointFileError):
    """The weights do not fit the model; the message lists what differs, one name a line."""

    many_lines = True


def read_published(path: Path, published: Published | None = None) -> Model:
    """The model in a file that holds a published checkpoint; None lets its weights tell which one.

    Raises:
        CheckpointFileError: the file cannot be read (see `read_tensors`), or holds something else; it is named.
    """
    tensors = read_tensors(path)
    try:
        return to_model(tensors, published or recognise(tensors))
    except CheckpointFileError as error:
        raise type(error)(f"{path}: {error}") from error


def to_model(tensors: Mapping[str, Tensor], published: Published) -> Model:
    """The published model with these weights, which have the names that their authors gave them.

    Raises:
        CheckpointFileError: they are those of another model, or of another number of classes; one line.
        MismatchError: they do not fit for another reason; the names and shapes that differ.
    """
    found, unknown = _renamed(tensors, published.source)
    shapes = _shapes(found)
    expected = expected_shapes(published.spec.architecture)
    differences = [f"unknown   {shown(name)} {tuple(tensors[name].shape)}" for name in unknown]
    differences += _differences(shapes, expected, tensors, published.source)
    if differences:
        if reason := _reason(tensors, published):
            raise CheckpointFileError(reason)
        raise MismatchError(_listing(differences, f"the weights do not fit {published.name}"))
    state = {name: _value(found, name, shape) for name, shape in expected.items()}
    network = network_of(published.spec.architecture)
    network.load_state_dict(state)
    return model_of(network.eval(), published.spec)


def identify(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the published models that these weights fit exactly, by names and shapes."""
    return [name for name, published in PUBLISHED.items() if _fits(tensors, published)]


def recognise(tensors: Mapping[str, Tensor]) -> Published:
    """The published model that these weights are those of.

    Raises:
        CheckpointFileError: of none, or of several; what to do is said.
    """
    names = identify(tensors)
    # Models that differ only in how long they were trained are computed alike: the first, best one stands for them.
    if (
        len({PUBLISHED[name].spec.model_copy(update={"name": "", "scores": {}}).model_dump_json() for name in names})
        > 1
    ):
        raise CheckpointFileError(f"it may be {' or '.join(names)}: convert it with --model NAME, and load the result")
    if not names:
        raise CheckpointFileError(
            f"its tensors are those of no model that is known ({', '.join(PUBLISHED)}); "
            "`pointrend convert` with --model NAME says how they differ from those of one"
        )
    return PUBLISHED[names[0]]


def _fits(tensors: Mapping[str, Tensor], published: Published, *, num_classes: int | None = None) -> bool:
    architecture = published.spec.architecture
    if num_classes is not None:
        architecture = architecture.model_copy(update={"num_classes": num_classes})
    try:
        found, unknown = _renamed(tensors, published.source)
    except CheckpointFileError:
        return False
    # Building a network takes longer than looking at names.
    if unknown or not found:
        return False
    return not _differences(_shapes(found), expected_shapes(architecture), tensors, published.source)


def _renamed(tensors: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by our names and in our shapes, and the names that mean nothing."""
    found: dict[str, Tensor] = {}
    unknown: list[str] = []
    names = {name: our_name(name, source) for name in tensors if not IGNORED.fullmatch(name)}
    counts = Counter(names.values())
    for name, ours in names.items():
        if ours is None:
            unknown.append(name)
        elif counts[ours] > 1:
            raise CheckpointFileError(
                f"two tensors of the checkpoint mean the same: {shown(name)} comes twice, as {shown(ours)}"
            )
        else:
            found[ours] = our_value(ours, tensors[name], source)
    return found, unknown


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _differences(found: Shapes, expected: Shapes, tensors: Mapping[str, Tensor], source: str) -> list[str]:
    """One line for each name of ours that is missing, too many or of another shape."""
    theirs = {our_name(name, source): name for name in tensors}
    lines = [
        f"missing   {name} {expected[name]}" for name in expected if name not in found and not name.endswith(COUNTER)
    ]
    for name, shape in found.items():
        if name not in expected:
            lines.append(f"too many  {shown(theirs[name])} {shape}")
        elif shape != expected[name]:
            lines.append(f"shape     {shown(theirs[name])} is {shape}, expected {expected[name]}")
    return lines


def _listing(lines: list[str], title: str) -> str:
    more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "\n".join([f"{title} ({len(lines)} differences):", *(f"  {line}" for line in lines[:LISTED]), *more])


def _reason(tensors: Mapping[str, Tensor], published: Published) -> str | None:
    """Why the weights are not those of the model, where that can be said in a line."""
    if others := identify(tensors):
        return f"the weights are those of {others[0]}, not of {published.name}; give --model {others[0]}"
    for source in RULES:
        if source == published.source:
            continue
        mine, other = (sum(our_name(name, s) is not None for name in tensors) for s in (published.source, source))
        if other > mine:
            return f"the names are those of {source}, {published.name} is a checkpoint of {published.source}"
    if not any(our_name(name, published.source) for name in tensors):
        return f"no name in it is one of {published.source}'s PointRend: not a checkpoint of {published.name}"
    classes = _num_classes(tensors, published.source)
    for candidate in (published, *PUBLISHED.values()):
        if classes is not None and _fits(tensors, candidate, num_classes=classes):
            has = candidate.spec.architecture
            if has.backbone != published.spec.architecture.backbone:
                return (
                    f"the weights are those of a {has.backbone} with {classes} classes, {published.name} is a "
                    f"{published.spec.architecture.backbone} with {published.spec.architecture.num_classes}"
                )
            return f"the weights have {classes} classes, {published.name} has {published.spec.architecture.num_classes}"
    return None


def _num_classes(tensors: Mapping[str, Tensor], source: str) -> int | None:
    for name, tensor in tensors.items():
        if our_name(name, source) in CLASSIFIERS and tensor.ndim == 1 and tensor.shape[0] > 0:
            return int(tensor.shape[0])
    return None


def _value(found: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith(COUNTER):
        return found[name].to(torch.int64) if name in found else torch.zeros(shape, dtype=torch.int64)
    if not found[name].is_floating_point():
        dtype = str(found[name].dtype).removeprefix("torch.")
        raise CheckpointFileError(f"{name} is {dtype}; expected floating point numbers")
    value = found[name].to(torch.float32)
    if not bool(torch.isfinite(value).all()):
        raise CheckpointFileError(f"damaged: {name} holds numbers that are not finite")
    if name.endswith("running_var") and bool((value < 0).any()):
        raise CheckpointFileError(f"damaged: {name} holds negative variances")
    return value
