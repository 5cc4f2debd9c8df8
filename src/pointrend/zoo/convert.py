"""Convert published checkpoints to our models: every tensor is used exactly once, or deliberately ignored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pointrend.data.classes import ClassInfo, class_colors
from pointrend.errors import PointRendError, printable, warn
from pointrend.spec import ModelSpec
from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.model import Model
from pointrend.zoo.modelfile import expected_shapes, network_of, weight_problem
from pointrend.zoo.names import plain_names
from pointrend.zoo.reading import CheckpointFileError, read_tensors
from pointrend.zoo.rules import RULES, our_name, our_value

MAX_LINES = 8
"""Differences that a message lists."""

IGNORED = re.compile(r"(.+\.)?(pixel_mean|pixel_std|cell_anchors(\.\d+)?|anchor_generator\.cell_anchors\.\d+)")
"""Constants that detectron2 stores with the weights; ours are in the model's `InputSpec`."""

COUNTER = "num_batches_tracked"
"""Batch norm's count of batches, which frozen norms do not have and prediction does not read."""

CLASSIFIERS = ("point_head.classifier.bias", "mask_head.point_head.classifier.bias")
"""Our names of the vectors with one number a class."""


class MismatchError(CheckpointFileError):
    """The weights do not fit the model; the message lists the differences, one a line."""

    many_lines = True


def read_published(path: Path, published: Published | None = None) -> Model:
    """Read the model in a file that holds a published checkpoint; None recognises it by its weights.

    Raises:
        CheckpointFileError: the file cannot be read (see `read_tensors`), or holds something else; it is named.
    """
    tensors = _read(path)
    try:
        return to_model(tensors, published or recognise(tensors))
    except CheckpointFileError as error:
        raise type(error)(f"{path}: {error}") from error


def read_checkpoint(
    path: Path, published: Published | None = None, classes: Sequence[ClassInfo] | None = None
) -> Model:
    """Read a model of a published architecture, which may have other classes: someone's own training.

    Args:
        path: a `.pth`, `.pkl` or `.safetensors` file.
        published: whose architecture it has; None recognises it by its weights.
        classes: in the order of its logits; None takes the published ones where they are as many, and else numbers
            them. A warning says so.

    Raises:
        CheckpointFileError: as `read_published`; or there are not as many classes.
    """
    tensors = _read(path)
    try:
        return to_model(tensors, with_classes(tensors, published, classes, file=path))
    except CheckpointFileError as error:
        raise type(error)(f"{path}: {error}") from error


def with_classes(
    tensors: Mapping[str, Tensor], published: Published | None, classes: Sequence[ClassInfo] | None, *, file: Path
) -> Published:
    """Return the published model that the weights are like, with their number of classes and with these names.

    Raises:
        CheckpointFileError: they are like none, or have another number of classes than `classes`.
    """
    named = _Named(tensors)
    candidates = PUBLISHED.values() if published is None else (published,)
    counts = {source: _count(tensors, source) for source in RULES}
    others = [
        candidate
        for candidate in candidates
        if (count := counts[candidate.source]) not in (None, candidate.spec.num_logits)
        and named.fit(candidate.source, candidate.spec.model_copy(update={"num_logits": count}))
    ]
    exact = any(named.fit(candidate.source, candidate.spec) for candidate in candidates)
    if exact or not others:  # as many as published, or another model, which `recognise` and `to_model` report
        found = published or recognise(tensors)
        return found if classes is None else _renamed_classes(found, found.spec.num_logits, classes)
    first, count = others[0], counts[others[0].source]
    assert count is not None
    if len(others) > 1 and any(one.spec.test != first.spec.test for one in others):
        names = ", ".join(one.name for one in others)
        _notice(file, f"it may be any of {names}: the test settings are those of {first.name}; --model names another")
    return _renamed_classes(first, count, classes, file=file)


def _renamed_classes(
    published: Published, count: int, classes: Sequence[ClassInfo] | None, *, file: Path | None = None
) -> Published:
    """Return a published model with another number of logits."""
    semantic = published.spec.task == "semantic"
    number = 2 if semantic and count == 1 else count
    if classes is None:
        names = [f"class {index}" for index in range(number)]
        classes = tuple(map(ClassInfo, names, class_colors(names)))
        if file is not None:
            said = f"its {number} classes have no names, and are called class 0 to class {number - 1}"
            _notice(file, f"{said}; name them by `pointrend convert --classes`")
    if len(classes) != number:
        raise CheckpointFileError(f"the weights have {number} classes, and {len(classes)} were named")
    changes: dict[str, object] = {"classes": tuple(classes)}
    if count != published.spec.num_logits:
        # Trained by someone else on something else.
        name = f"{published.name}-{number}-classes"
        changes |= {"num_logits": count, "name": name, "layout": None, "data": "", "licence": "", "scores": {}}
    # Once more as a whole: the number of classes must be allowed.
    try:
        spec = type(published.spec)(**{**dict(published.spec), **changes})
    except PointRendError as error:
        raise CheckpointFileError(str(error)) from error
    return published.model_copy(update={"spec": spec})


def _read(path: Path) -> dict[str, Tensor]:
    """Return the weights in a file, without prefixes."""
    tensors, notices = plain_names(read_tensors(path))
    for notice in notices:
        _notice(path, notice)
    return tensors


def _notice(file: Path, text: str) -> None:
    warn(f"{file}: {text}")


def _count(tensors: Mapping[str, Tensor], source: str) -> int | None:
    """Return the number of logits of the point head in weights of a toolbox."""
    sizes = (t.shape[0] for name, t in tensors.items() if t.ndim == 1 and our_name(name, source) in CLASSIFIERS)
    return next((size for size in sizes if size > 0), None)


def to_model(tensors: Mapping[str, Tensor], published: Published) -> Model:
    """Build the published model with these weights, which have the names that their authors gave them.

    Raises:
        CheckpointFileError: they are those of another model, or of another number of classes; one line.
        MismatchError: they do not fit for another reason; the names and shapes that differ.
    """
    found, theirs, unknown = _renamed(tensors, published.source)
    lines = [f"unknown   {printable(name)} {tuple(tensors[name].shape)}" for name in unknown]
    lines += _differences(found, theirs, published.spec)
    if lines:
        if reason := _reason(tensors, published):
            raise CheckpointFileError(reason)
        more = [f"and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
        title = f"the weights do not fit {published.name} ({len(lines)} differences):"
        raise MismatchError("\n  ".join([title, *lines[:MAX_LINES], *more]))
    network = network_of(published.spec)
    shapes = expected_shapes(published.spec)
    network.load_state_dict({name: _value(found, name, shape) for name, shape in shapes.items()})
    return Model(network, published.spec).eval()


def identify(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the published models that these weights fit exactly, by names and shapes."""
    named = _Named(tensors)
    return [name for name, published in PUBLISHED.items() if named.fit(published.source, published.spec)]


def recognise(tensors: Mapping[str, Tensor]) -> Published:
    """Return the published model that these weights belong to.

    Raises:
        CheckpointFileError: they belong to no published model, or to several that are computed differently.
    """
    names = identify(tensors)
    if not names:
        raise CheckpointFileError(
            f"its tensors fit no published model ({', '.join(PUBLISHED)}); "
            "`pointrend convert` with --model NAME lists how they differ from that model's"
        )
    # Models that differ only in how long they were trained are computed alike: the first, best one stands for them.
    specs = [PUBLISHED[name].spec.model_copy(update={"name": "", "scores": {}}) for name in names]
    if any(spec != specs[0] for spec in specs):
        raise CheckpointFileError(f"it may be {' or '.join(names)}: convert it with --model NAME, and load the result")
    return PUBLISHED[names[0]]


class _Named:
    """Weights by our names: they are translated once for each toolbox, and compared with many models."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._renamed: dict[str, tuple[dict[str, Tensor], dict[str, str], list[str]] | None] = {}

    def fit(self, source: str, spec: ModelSpec) -> bool:
        """Return whether they are those of a model, by names and shapes."""
        if source not in self._renamed:
            try:
                self._renamed[source] = _renamed(self._tensors, source)
            except CheckpointFileError:
                self._renamed[source] = None
        renamed = self._renamed[source]
        if renamed is None:
            return False
        found, theirs, unknown = renamed
        # Names are compared first, because building a network takes longer.
        return bool(found) and not unknown and not _differences(found, theirs, spec)


def _renamed(tensors: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Return the tensors by our names and in our shapes, their authors' names by ours, and the unknown names."""
    names = {name: our_name(name, source) for name in tensors if not IGNORED.fullmatch(name)}
    counts = Counter(names.values())
    theirs: dict[str, str] = {}
    for name, ours in names.items():
        if ours is not None and counts[ours] > 1:
            raise CheckpointFileError(
                f"two tensors of the checkpoint mean the same: {printable(name)} comes twice, as {printable(ours)}"
            )
        if ours is not None:
            theirs[ours] = name
    found = {ours: our_value(ours, tensors[name], source) for ours, name in theirs.items()}
    return found, theirs, [name for name, ours in names.items() if ours is None]


def _differences(found: Mapping[str, Tensor], theirs: Mapping[str, str], spec: ModelSpec) -> list[str]:
    """Return one line for each of our names that is missing, too many or of another shape."""
    expected = expected_shapes(spec)
    lines = [
        f"missing   {name} {expected[name]}" for name in expected if name not in found and not name.endswith(COUNTER)
    ]
    for name, tensor in found.items():
        shape = tuple(tensor.shape)
        if name not in expected:
            lines.append(f"too many  {printable(theirs[name])} {shape}")
        elif shape != expected[name]:
            lines.append(f"shape     {printable(theirs[name])} is {shape}, expected {expected[name]}")
    return lines


def _reason(tensors: Mapping[str, Tensor], published: Published) -> str | None:
    """Return why the weights are not those of the model, if one line can say it."""
    if others := identify(tensors):
        return f"the weights are those of {others[0]}, not of {published.name}; give --model {others[0]}"
    matches = {source: sum(our_name(name, source) is not None for name in tensors) for source in RULES}
    source = max(RULES, key=lambda name: (matches[name], name == published.source))
    if source != published.source:
        return f"the names are those of {source}, {published.name} is a checkpoint of {published.source}"
    if not matches[source]:
        return f"no name in it is one of {source}'s PointRend: not a checkpoint of {published.name}"
    classes = _count(tensors, source)
    named = _Named(tensors)
    for candidate in (published, *PUBLISHED.values()) if classes else ():
        if named.fit(candidate.source, candidate.spec.model_copy(update={"num_logits": classes})):
            has, wanted = candidate.spec.backbone, published.spec.backbone
            if has == wanted:
                return f"the weights have {classes} classes, {published.name} has {published.spec.num_logits}"
            return (
                f"the weights are those of a {has} with {classes} classes, {published.name} is a "
                f"{wanted} with {published.spec.num_logits}"
            )
    return None


def _value(found: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith(COUNTER):
        return found[name].to(torch.int64) if name in found else torch.zeros(shape, dtype=torch.int64)
    if problem := weight_problem(name, found[name]):
        raise CheckpointFileError(problem)
    return found[name].to(torch.float32)
