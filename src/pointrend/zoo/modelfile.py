"""Our file format: safetensors, with the `ModelSpec` as JSON in the header. Nothing in it is ever executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pointrend.errors import PointRendError, printable, shown
from pointrend.files import write_atomically
from pointrend.models.hosts.black_box import as_module
from pointrend.models.hosts.families import OWN, plain_call
from pointrend.models.hosts.network import HostedPointRend
from pointrend.spec import FORMAT_VERSION, ModelSpec
from pointrend.strict import first_problem
from pointrend.tasks import TASKS
from pointrend.zoo.formats import upgraded
from pointrend.zoo.model import Model
from pointrend.zoo.unpickling import MAX_TENSORS

METADATA_KEY = "pointrend"
_COMPLEX = (torch.complex32, torch.complex64, torch.complex128)
MAX_SPEC = 4 * 2**20
"""Maximum number of characters of a spec; one of 16,384 classes has 1.5 million."""


class ModelFileError(PointRendError):
    """A model file cannot be used."""


def network_of(spec: ModelSpec) -> nn.Module:
    """Build the network that a spec describes, with new weights."""
    return TASKS[spec.task].network(spec.num_logits, spec.architecture)


def network_on(host: nn.Module | Callable[[Tensor], Any], spec: ModelSpec) -> nn.Module:
    """Put the point head that a spec describes, with new weights, on a network of the user's own.

    Raises:
        PointRendError: the model is not on such a network.
    """
    layout = getattr(spec.architecture, "host", None)
    if layout is None or layout.family != OWN:
        raise PointRendError(f"{spec.name} builds its network itself: load it without host=")
    return HostedPointRend(as_module(host), layout, spec.num_logits, spec.architecture.point, plain_call)


def parse_spec(fields: Mapping[str, object]) -> ModelSpec:
    """Return the spec in the fields of a header.

    Raises:
        ValidationError: from pydantic, if a field is wrong.
        PointRendError: there is no such task.
    """
    task = fields.get("task", "semantic")
    if task not in TASKS:
        raise PointRendError(f"task: expected one of {', '.join(TASKS)}, got {shown(task)}")
    return TASKS[str(task)].spec.model_validate(fields)


def expected_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the network's parameters and buffers by their names; nothing is allocated."""
    architecture = spec.architecture
    key = (spec.task, spec.num_logits, str(architecture.model_dump_json()))
    if key not in _SHAPES:
        with torch.device("meta"):
            _SHAPES[key] = _shapes_of(TASKS[spec.task].network(spec.num_logits, architecture))
    return _SHAPES[key]


_SHAPES: dict[tuple[str, int, str], dict[str, tuple[int, ...]]] = {}
"""By task, number of logits and architecture as JSON."""


def _shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def weight_problem(name: str, value: Tensor, *, floating: bool = True) -> str | None:
    """Return why a tensor cannot be a weight or a buffer of a network, in one line; None if it can.

    Args:
        name: names a variance by its end.
        value: float32 numbers are looked at as such, in which they are computed.
        floating: floating point numbers are expected, else integers.
    """
    kind = str(value.dtype).removeprefix("torch.")
    if floating != value.is_floating_point() or value.dtype in (torch.bool, *_COMPLEX):
        return f"{printable(name)} is {kind}; expected {'floating point numbers' if floating else 'integers'}"
    if not floating:
        return None
    numbers = value.float()
    if not bool(torch.isfinite(numbers).all()):
        return f"damaged: {printable(name)} holds numbers that are not finite"
    if name.endswith("running_var") and bool((numbers < 0).any()):
        return f"damaged: {printable(name)} holds negative variances"
    return None


def save_model(model: Model, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a model to a self-contained file, atomically.

    Args:
        model: its weights, and its spec for the header.
        path: ends in `.safetensors`.
        dtype: stores floating tensors but vectors in this type (float16 halves the file); None keeps them.

    Raises:
        ModelFileError: a weight is not finite, or too large for `dtype`: the file could not be read.
    """
    tensors = {key: _stored(value, dtype) for key, value in model.network.state_dict().items()}
    for key, value in tensors.items():
        if problem := weight_problem(key, value, floating=value.is_floating_point()):
            large = dtype is not None and weight_problem(key, model.network.state_dict()[key]) is None
            reason = f"{printable(key)} is too large for {dtype}; give another dtype" if large else problem
            raise ModelFileError(f"{path}: not written: {reason}")
    metadata = {METADATA_KEY: model.spec.model_dump_json(), "format": "pt"}
    write_atomically(Path(path), save(tensors, metadata=metadata))


def _stored(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    # Vectors are small, and among them are variances, which half precision may not hold.
    if dtype is not None and value.is_floating_point() and value.ndim > 1:
        value = value.to(dtype)
    return value.detach().cpu().contiguous()


def is_model_file(path: Path) -> bool:
    """Return whether a safetensors file has our header, valid or not.

    Raises:
        ModelFileError: it is not a safetensors file, or is damaged.
    """
    return METADATA_KEY in _read(path, weights=False)[0]


def read_spec(path: Path) -> ModelSpec:
    """Return the spec in a file's header, without reading the weights."""
    return _spec_in(path, _read(path, weights=False)[0])


def read_model(
    path: Path, *, device: torch.device | str = "cpu", host: nn.Module | Callable[[Tensor], Any] | None = None
) -> Model:
    """Read the model in a file that `save_model` wrote.

    Args:
        path: of the file.
        device: where the network is put.
        host: the network under PointRend, for a model whose file says that it is its user's own; it is changed.

    Raises:
        ModelFileError: it is not such a file, or of a newer format, or its weights do not fit its spec or are not
            numbers that a network has.
    """
    metadata, tensors = _read(path, weights=True)
    spec = _spec_in(path, metadata)
    try:
        network = None if host is None else network_on(host, spec)
        expected = expected_shapes(spec) if network is None else _shapes_of(network)
    except ValueError as error:
        raise ModelFileError(f"{path}: {printable(str(error), length=300)}") from error
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if expected != found:
        raise ModelFileError(
            f"{path}: the weights do not fit the architecture it names: {_difference(expected, found)}"
        )
    network = network or network_of(spec)  # which takes memory, but no more than the file has
    for name, buffer in network.state_dict().items():
        if problem := weight_problem(name, tensors[name], floating=buffer.is_floating_point()):
            raise ModelFileError(f"{path}: {problem}")
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    return Model(network, spec).eval().to(device)


def _read(path: Path, *, weights: bool) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata, keys = file.metadata() or {}, file.keys()
            if len(keys) > MAX_TENSORS:
                raise ModelFileError(f"{path}: holds more than {MAX_TENSORS} tensors, which no model has")
            return metadata, {key: file.get_tensor(key) for key in keys} if weights else {}
    except ModelFileError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(
            f"{path}: not a safetensors file, or damaged ({printable(str(error), length=300)})"
        ) from error


def _spec_in(path: Path, metadata: Mapping[str, str]) -> ModelSpec:
    if METADATA_KEY not in metadata:
        raise ModelFileError(
            f"{path}: a safetensors file, but not a pointrend model: its header has no {METADATA_KEY!r}"
        )
    if (length := len(metadata[METADATA_KEY])) > MAX_SPEC:
        raise ModelFileError(f"{path}: its spec has {length} characters, expected at most {MAX_SPEC}")
    try:
        fields = json.loads(metadata[METADATA_KEY])
        version = fields["format_version"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ModelFileError(
                f"{path}: model format {shown(version)}, this pointrend reads up to {FORMAT_VERSION}: upgrade pointrend"
            )
        return parse_spec(upgraded(fields) if version == 1 else fields)
    except ModelFileError:
        raise
    except (KeyError, TypeError, RecursionError, ValueError) as error:
        reason = f"cannot be read ({type(error).__name__}: {error})"
        if isinstance(error, ValidationError):
            reason = f"is wrong at {first_problem(error)}"
        elif isinstance(error, PointRendError):
            reason = f"is wrong at {error}"
        raise ModelFileError(f"{path}: its spec {printable(reason, length=300)}") from error


def _difference(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    lines = [f"{printable(name)} missing" for name in expected.keys() - found.keys()]
    for name, shape in found.items():
        if name not in expected:
            lines.append(f"{printable(name)} unexpected")
        elif shape != expected[name]:
            lines.append(f"{printable(name)} is {shape}, not {expected[name]}")
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    return "; ".join(sorted(lines)[:3]) + more
