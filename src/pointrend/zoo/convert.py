"""Published checkpoints as models of ours: every tensor is used exactly once, or deliberately ignored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.modelfile import Model, expected_shapes, model_of, network_of, shown
from pointrend.zoo.reading import CheckpointFileError, read_tensors

Shapes = Mapping[str, tuple[int, ...]]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern that a whole name must match, and the name of ours."""

LISTED = 8
"""Lines of a diff that are shown."""

IGNORED = re.compile(r"(.+\.)?(pixel_mean|pixel_std|cell_anchors(\.\d+)?|anchor_generator\.cell_anchors\.\d+)")
"""Constants that detectron2 stores with the weights; ours are in the model's `InputSpec`."""

COUNTER = "num_batches_tracked"
"""Batch norm's count of batches, which frozen norms do not have and prediction does not read."""

LEGACY: tuple[tuple[str, str], ...] = (
    (r"(^|\.)mask_coarse_head\.", r"\1mask_head.coarse_head."),
    (r"(^|\.)mask_point_head\.", r"\1mask_head.point_head."),
    (r"(^|\.)coarse_mask_fc(\d+)\.", r"\1fc\2."),
)
"""What older detectron2 checkpoints call parts of PointRend, and what newer ones do."""


class MismatchError(CheckpointFileError):
    """The weights do not fit the model; the message lists what differs, one name a line."""

    many_lines = True


def _less(group: int, amount: int) -> Callable[[re.Match[str]], int]:
    return lambda match: int(match[group]) - amount


def _numbered(text: str, **numbers: Callable[[re.Match[str]], int]) -> Callable[[re.Match[str]], str]:
    """A replacement with computed numbers in braces."""
    return lambda match: match.expand(text.format(**{name: value(match) for name, value in numbers.items()}))


def _half(group: int) -> Callable[[re.Match[str]], int]:
    # Upsampling layers between the convolutions count, and have no weights.
    return lambda match: int(match[group]) // 2


_NORM = "weight|bias|running_mean|running_var|num_batches_tracked"

_MMSEGMENTATION: tuple[Rule, ...] = (
    (rf"backbone\.stem\.7\.({_NORM})", r"backbone.model.bn1.\1"),
    (rf"backbone\.stem\.([01346])\.({_NORM})", r"backbone.model.conv1.\1.\2"),
    (r"backbone\.((?:conv1|bn1|layer[1-4])\..+)", r"backbone.model.\1"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(weight|bias)", r"pyramid.inner_blocks.\1.0.\2"),
    (r"neck\.fpn_convs\.(\d)\.conv\.(weight|bias)", r"pyramid.layer_blocks.\1.0.\2"),
    (
        r"decode_head\.0\.scale_heads\.(\d)\.([024])\.conv\.weight",
        _numbered(r"coarse_head.levels.\1.{block}.0.weight", block=_half(2)),
    ),
    (
        rf"decode_head\.0\.scale_heads\.(\d)\.([024])\.bn\.({_NORM})",
        _numbered(r"coarse_head.levels.\1.{block}.1.\3", block=_half(2)),
    ),
    (r"decode_head\.0\.conv_seg\.(weight|bias)", r"coarse_head.classifier.\1"),
    (r"decode_head\.1\.fcs\.(\d+)\.conv\.(weight|bias)", r"point_head.layers.\1.\2"),
    (r"decode_head\.1\.fc_seg\.(weight|bias)", r"point_head.classifier.\1"),
)

_RES = r"backbone\.bottom_up\.res([2-5])\.(\d+)"
_COARSE = r"sem_seg_head\.coarse_sem_seg_head"
_DETECTRON2: tuple[Rule, ...] = (
    (r"backbone\.bottom_up\.stem\.conv1\.weight", "backbone.model.conv1.weight"),
    (rf"backbone\.bottom_up\.stem\.conv1\.norm\.({_NORM})", r"backbone.model.bn1.\1"),
    (
        rf"{_RES}\.conv([123])\.weight",
        _numbered(r"backbone.model.layer{layer}.\2.conv\3.weight", layer=_less(1, 1)),
    ),
    (
        rf"{_RES}\.conv([123])\.norm\.({_NORM})",
        _numbered(r"backbone.model.layer{layer}.\2.bn\3.\4", layer=_less(1, 1)),
    ),
    (
        rf"{_RES}\.shortcut\.weight",
        _numbered(r"backbone.model.layer{layer}.\2.downsample.0.weight", layer=_less(1, 1)),
    ),
    (
        rf"{_RES}\.shortcut\.norm\.({_NORM})",
        _numbered(r"backbone.model.layer{layer}.\2.downsample.1.\3", layer=_less(1, 1)),
    ),
    (
        r"backbone\.fpn_lateral([2-5])\.(weight|bias)",
        _numbered(r"pyramid.inner_blocks.{level}.0.\2", level=_less(1, 2)),
    ),
    (
        r"backbone\.fpn_output([2-5])\.(weight|bias)",
        _numbered(r"pyramid.layer_blocks.{level}.0.\2", level=_less(1, 2)),
    ),
    (
        rf"{_COARSE}\.p([2-5])\.([024])\.weight",
        _numbered(r"coarse_head.levels.{level}.{block}.0.weight", level=_less(1, 2), block=_half(2)),
    ),
    (
        rf"{_COARSE}\.p([2-5])\.([024])\.norm\.({_NORM})",
        _numbered(r"coarse_head.levels.{level}.{block}.1.\3", level=_less(1, 2), block=_half(2)),
    ),
    (rf"{_COARSE}\.predictor\.(weight|bias)", r"coarse_head.classifier.\1"),
    (
        r"sem_seg_head\.point_head\.fc(\d+)\.(weight|bias)",
        _numbered(r"point_head.layers.{layer}.\2", layer=_less(1, 1)),
    ),
    (r"sem_seg_head\.point_head\.predictor\.(weight|bias)", r"point_head.classifier.\1"),
)

RULES: dict[str, tuple[Rule, ...]] = {"mmsegmentation": _MMSEGMENTATION, "detectron2": _DETECTRON2}


def current_name(name: str) -> str:
    """The name that detectron2 gives now to what older checkpoints call `name`."""
    for pattern, replacement in LEGACY:
        name = re.sub(pattern, replacement, name)
    return name


def our_name(name: str, source: str) -> str | None:
    """What we call a parameter of a toolbox's checkpoint; None if we have none of the kind."""
    for pattern, replacement in RULES[source]:
        match = re.fullmatch(pattern, current_name(name))
        if match is not None:
            return match.expand(replacement) if isinstance(replacement, str) else replacement(match)
    return None


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
    if len(names) > 1:
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
            found[ours] = _linear(tensors[name]) if ours.startswith("point_head.") else tensors[name]
    return found, unknown


def _linear(tensor: Tensor) -> Tensor:
    """Weights of a 1x1 convolution over points are those of a linear layer."""
    return tensor.squeeze(2) if tensor.ndim == 3 and tensor.shape[2] == 1 else tensor


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
        if our_name(name, source) == "point_head.classifier.bias" and tensor.ndim == 1 and tensor.shape[0] > 0:
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
