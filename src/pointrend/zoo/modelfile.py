"""Our file format: safetensors, with the `ModelSpec` as JSON in the header. Nothing in it is ever executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import overload

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pointrend.files import write_atomically
from pointrend.models import InstancePointRend, SemanticPointRend, instance_pointrend, semantic_pointrend
from pointrend.zoo.spec import (
    FORMAT_VERSION,
    Architecture,
    InstanceArchitecture,
    InstanceSpec,
    ModelSpec,
    SemanticSpec,
    parse_spec,
)

METADATA_KEY = "pointrend"


class ModelFileError(ValueError):
    """A model file that cannot be used; the message is one line."""


def shown(text: str, *, length: int = 100) -> str:
    """What a file says, as it may be printed: not too much of it, and nothing that a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:length])


@dataclass(frozen=True)
class SemanticModel:
    """A semantic network, in evaluation mode, with what is needed to use it."""

    network: SemanticPointRend
    spec: SemanticSpec


@dataclass(frozen=True)
class InstanceModel:
    """An instance network, in evaluation mode, with what is needed to use it."""

    network: InstancePointRend
    spec: InstanceSpec


Model = SemanticModel | InstanceModel
"""What `load_model` gives."""


@overload
def build(spec: SemanticSpec) -> SemanticPointRend: ...
@overload
def build(spec: InstanceSpec) -> InstancePointRend: ...
def build(spec: ModelSpec) -> SemanticPointRend | InstancePointRend:
    """The network that `spec` describes, with new weights."""
    return network_of(spec.architecture)


def network_of(architecture: Architecture) -> SemanticPointRend | InstancePointRend:
    """The network of these numbers, with new weights."""
    if isinstance(architecture, InstanceArchitecture):
        return instance_pointrend(**architecture.model_dump())
    return semantic_pointrend(**architecture.model_dump())


def model_of(network: SemanticPointRend | InstancePointRend, spec: ModelSpec) -> Model:
    """The two together, which must be of one task."""
    if isinstance(spec, InstanceSpec):
        assert isinstance(network, InstancePointRend)
        return InstanceModel(network, spec)
    assert isinstance(network, SemanticPointRend)
    return SemanticModel(network, spec)


@cache
def expected_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shapes of the network's parameters and buffers by their names; nothing is allocated."""
    with torch.device("meta"):
        network = network_of(architecture)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def save_model(path: Path, state: Mapping[str, Tensor], spec: ModelSpec, *, dtype: torch.dtype | None = None) -> None:
    """Write weights and `spec` to a self-contained file, atomically.

    Args:
        path: ends in `.safetensors`.
        state: the network's `state_dict()`.
        spec: goes into the header.
        dtype: stores floating tensors but vectors in this type (float16 halves the file); None keeps them.
    """
    tensors = {key: _stored(value, dtype) for key, value in state.items()}
    metadata = {METADATA_KEY: spec.model_dump_json(), "format": "pt"}
    write_atomically(path, save(tensors, metadata=metadata))


def _stored(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    # Vectors are small, and among them are variances, which half precision may not hold.
    if dtype is not None and value.is_floating_point() and value.ndim > 1:
        value = value.to(dtype)
    return value.detach().cpu().contiguous()


def is_model_file(path: Path) -> bool:
    """Whether a safetensors file says that it is ours, in whatever state it is.

    Raises:
        ModelFileError: no safetensors file, or damaged.
    """
    return METADATA_KEY in _read(path, weights=False)[0]


def read_spec(path: Path) -> ModelSpec:
    """The spec in a file's header; the weights are not read."""
    metadata, _ = _read(path, weights=False)
    return _parse_spec(path, metadata)


def read_model(path: Path, *, device: torch.device | str = "cpu") -> Model:
    """The model in a file that `save_model` wrote.

    Raises:
        ModelFileError: not such a file, of a newer format, or its weights do not fit what it says of itself.
    """
    metadata, tensors = _read(path, weights=True)
    spec = _parse_spec(path, metadata)
    try:
        expected = expected_shapes(spec.architecture)
    except ValueError as error:
        raise ModelFileError(f"{path}: {shown(str(error), length=300)}") from error
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if expected != found:
        raise ModelFileError(
            f"{path}: the weights do not fit the architecture it names: {_difference(expected, found)}"
        )
    network = network_of(spec.architecture)  # which takes memory, but no more than the file has
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    return model_of(network.eval().to(device), spec)


def _read(path: Path, *, weights: bool) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            return metadata, {key: file.get_tensor(key) for key in file.keys()} if weights else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path}: not a safetensors file, or damaged ({shown(str(error), length=300)})") from error


def _parse_spec(path: Path, metadata: Mapping[str, str]) -> ModelSpec:
    if METADATA_KEY not in metadata:
        raise ModelFileError(
            f"{path}: a safetensors file, but not a pointrend model: its header has no {METADATA_KEY!r}"
        )
    try:
        fields = json.loads(metadata[METADATA_KEY])
        version = fields["format_version"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ModelFileError(
                f"{path}: model format {version}, this pointrend reads up to {FORMAT_VERSION}: upgrade pointrend"
            )
        return parse_spec(fields)
    except ModelFileError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        where = shown(".".join(map(str, first["loc"])))
        raise ModelFileError(
            f"{path}: its description is wrong at {where or 'the top'}: {shown(first['msg'], length=300)}"
        ) from error
    except (KeyError, TypeError, RecursionError, ValueError) as error:
        raise ModelFileError(f"{path}: its description cannot be read ({shown(repr(error))})") from error


def _difference(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    lines = [f"{shown(k)} missing" for k in expected.keys() - found.keys()]
    lines += [f"{shown(k)} unexpected" for k in found.keys() - expected.keys()]
    lines += [
        f"{shown(k)} is {found[k]}, not {expected[k]}"
        for k in expected.keys() & found.keys()
        if expected[k] != found[k]
    ]
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    return "; ".join(sorted(lines)[:3]) + more
