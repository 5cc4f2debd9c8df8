"""Load models by name, bundled with the package or published by others, or from a file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pointrend.devices import available_device
from pointrend.spec import ModelSpec
from pointrend.zoo.cache import cached_path, has_checksum, pin, set_aside
from pointrend.zoo.convert import read_checkpoint, read_published
from pointrend.zoo.download import Progress, fetch
from pointrend.zoo.engines import Engine, Precision, with_engine
from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.model import Model
from pointrend.zoo.modelfile import ModelFileError, is_model_file, read_model, read_spec
from pointrend.zoo.reading import CheckpointFileError

SUFFIX = ".safetensors"
CHECKPOINT_SUFFIXES = frozenset({".pth", ".pt", ".pkl"})
"""Suffixes of files that mmsegmentation and detectron2 write."""


class UnknownModelError(ModelFileError):
    """No model has this name."""


@dataclass(frozen=True)
class ModelEntry:
    """A row of the list of models."""

    name: str
    task: str
    data: str
    licence: str
    size_bytes: int
    """Of the file; of its tensors where it was not downloaded yet."""
    scores: Mapping[str, float]
    """Percent, by the name of the metric."""
    source: Literal["bundled", "cached", "download"]
    """In the package, downloaded before, or downloaded when it is first loaded."""


def load_model(
    name_or_path: str | Path,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    engine: Engine = "torch",
    precision: Precision = "float32",
    host: nn.Module | Callable[[Tensor], Any] | None = None,
) -> Model:
    """Load a model by its name (see `list_models`) or from a file.

    A published name is downloaded when it is first used. A path may be a `.safetensors` file of ours, or a published
    checkpoint as it was downloaded (`.pth`, `.pkl`), which is recognised by its tensors. Of a
    checkpoint with another number of classes, these are numbered, and a `PointRendWarning` says so.

    Args:
        name_or_path: a `Path`, and a string that ends in `.safetensors` or names an existing file, is a path.
        device: where the network is put: "cpu", "cuda", "cuda:1", "mps".
        progress: called during a download, see `pointrend.zoo.download.Progress`; None draws a bar on a terminal.
        host: the network, or the function, that PointRend was attached to, for a model on one's own.
        engine: what computes the encoder, see `pointrend.zoo.engines.with_engine`.
        precision: the precision it computes in.

    Raises:
        EngineError: the engine is not installed, or not for this device.
        UnknownModelError: no such name; the nearest ones are named.
        ModelFileError: the file is missing, damaged, not a model, or of a newer format; or a download failed.
        PointRendError: the device does not exist here.
    """
    if host is not None:
        loaded = read_model(Path(name_or_path), device=available_device(device), host=host)
    else:
        loaded = _loaded(name_or_path, available_device(device), progress)
    return with_engine(loaded, engine, precision=precision)


def _loaded(name_or_path: str | Path, device: torch.device, progress: Progress | None) -> Model:
    bundled = _bundled()
    if isinstance(name_or_path, str) and name_or_path in bundled:
        with resources.as_file(bundled[name_or_path]) as path:
            return read_model(path, device=device)
    if isinstance(name_or_path, str) and name_or_path in PUBLISHED:
        return _fetched(PUBLISHED[name_or_path], progress).to(device)
    path = Path(name_or_path)
    if isinstance(name_or_path, Path) or path.suffix in {SUFFIX, *CHECKPOINT_SUFFIXES} or path.is_file():
        if path.is_file() and is_foreign(path):
            return read_checkpoint(path).to(device)
        return read_model(path, device=device)
    names = [*bundled, *PUBLISHED]
    near = difflib.get_close_matches(str(name_or_path), names, n=3, cutoff=0.4) or sorted(names)
    raise UnknownModelError(
        f"no model is called {name_or_path!r}: the nearest names are {', '.join(near)}; "
        f"or give the path of a {SUFFIX}, .pth or .pkl file"
    )


def _fetched(published: Published, progress: Progress | None) -> Model:
    """Download and read a published model; a file without a published hash is pinned once it was read."""
    path = fetch(published, progress=progress)
    try:
        model = read_published(path, published)
    except CheckpointFileError as error:
        if has_checksum(published):
            raise
        separator = "\n" if error.many_lines else "; "
        raise type(error)(f"{error}{separator}{set_aside(path, path)}") from error
    pin(published)
    return model


def is_foreign(path: Path) -> bool:
    """Return whether a file is a checkpoint of another toolbox, judged by its content, not its name."""
    try:
        return not is_model_file(path)
    except ModelFileError:
        return path.suffix != SUFFIX  # a damaged file of this suffix was probably ours


def list_models() -> list[ModelEntry]:
    """List all models that `load_model` knows by name, bundled ones first, without reading weights."""
    entries = []
    for name, file in sorted(_bundled().items()):
        with resources.as_file(file) as path:
            entries.append(_entry(name, read_spec(path), path.stat().st_size, "bundled"))
    for name, published in PUBLISHED.items():
        path = cached_path(published)
        if path.is_file():
            entries.append(_entry(name, published.spec, path.stat().st_size, "cached"))
        else:
            size = published.size_bytes or published.weight_bytes
            entries.append(_entry(name, published.spec, size, "download"))
    return entries


def _entry(name: str, spec: ModelSpec, size: int, source: Literal["bundled", "cached", "download"]) -> ModelEntry:
    fields = spec.model_dump(include={"task", "data", "licence", "scores"})
    return ModelEntry(name=name, size_bytes=size, source=source, **fields)


def _weights() -> Traversable:
    return resources.files("pointrend") / "weights"


def _bundled() -> dict[str, Traversable]:
    files = _weights().iterdir() if _weights().is_dir() else ()
    return {file.name.removesuffix(SUFFIX): file for file in files if file.name.endswith(SUFFIX)}
