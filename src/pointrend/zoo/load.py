"""Models by name: those that lie in the package, and those that others published. A path opens a file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

import torch

from pointrend.zoo.cache import cached_path, is_known, pin, set_aside
from pointrend.zoo.convert import read_published
from pointrend.zoo.download import Progress, fetch
from pointrend.zoo.engines import Engine, Precision, with_engine
from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.modelfile import Model, ModelFileError, is_model_file, model_of, read_model, read_spec
from pointrend.zoo.reading import CheckpointFileError
from pointrend.zoo.spec import ModelSpec

SUFFIX = ".safetensors"
CHECKPOINT_SUFFIXES = frozenset({".pth", ".pt", ".pkl"})
"""Of the files that mmsegmentation and detectron2 write."""


class UnknownModelError(ModelFileError):
    """No model has this name."""


@dataclass(frozen=True)
class ModelEntry:
    """What is known of a model without loading it."""

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
    precision: Precision = "f32",
) -> Model:
    """A model by its name (see `list_models`), or from a file.

    A published name is downloaded when it is first used. A path may be a `.safetensors` file of ours, or a published
    checkpoint as it was downloaded (`.pth`, `.pkl`), which is recognised by its tensors.

    Args:
        name_or_path: a `Path`, and a string that ends in `.safetensors` or names an existing file, is a path.
        device: where the network is put: "cpu", "cuda", "cuda:1", "mps".
        progress: told how far a download is, see `pointrend.zoo.download.fetch`; None draws a bar on a terminal.
        engine, precision: what computes the dense part, see `pointrend.zoo.engines.with_engine`.

    Raises:
        EngineError: the engine is not installed, or not for this device.
        UnknownModelError: no such name; the nearest ones are named.
        ModelFileError: the file is missing, damaged, no model, or of a newer format; or a download failed.
        ValueError: the device does not exist here.
    """
    return with_engine(_loaded(name_or_path, available_device(device), progress), engine, precision=precision)


def _loaded(name_or_path: str | Path, place: torch.device, progress: Progress | None) -> Model:
    bundled = _bundled()
    if isinstance(name_or_path, str) and name_or_path in bundled:
        with resources.as_file(bundled[name_or_path]) as path:
            return read_model(path, device=place)
    if isinstance(name_or_path, str) and name_or_path in PUBLISHED:
        return _placed(_fetched(PUBLISHED[name_or_path], progress), place)
    path = Path(name_or_path)
    if isinstance(name_or_path, Path) or path.suffix in {SUFFIX, *CHECKPOINT_SUFFIXES} or path.is_file():
        if path.is_file() and is_foreign(path):
            return _placed(read_published(path), place)
        return read_model(path, device=place)
    names = [*bundled, *PUBLISHED]
    near = difflib.get_close_matches(str(name_or_path), names, n=3, cutoff=0.4) or sorted(names)
    raise UnknownModelError(
        f"no model is called {name_or_path!r}: the nearest names are {', '.join(near)}; "
        f"or give the path of a {SUFFIX}, .pth or .pkl file"
    )


def _fetched(published: Published, progress: Progress | None) -> Model:
    """A published model; a file whose hash nobody states is pinned once it has turned out to be one."""
    path = fetch(published, progress=progress)
    try:
        model = read_published(path, published)
    except CheckpointFileError as error:
        if is_known(published):
            raise
        separator = "\n" if error.many_lines else "; "
        raise type(error)(f"{error}{separator}{set_aside(path, path)}") from error
    pin(published)
    return model


def is_foreign(path: Path) -> bool:
    """Whether a file is a checkpoint of another toolbox, and no model file of ours, whatever they are called."""
    try:
        return not is_model_file(path)
    except ModelFileError:
        return path.suffix != SUFFIX  # a damaged file of this suffix was ours, as far as anyone can tell


def _placed(model: Model, device: torch.device) -> Model:
    return model_of(model.network.eval().to(device), model.spec)


def list_models() -> list[ModelEntry]:
    """All models that `load_model` knows by name: bundled ones, then published ones. Weights are not read."""
    bundled = [_bundled_entry(name, file) for name, file in sorted(_bundled().items())]
    return bundled + [_published_entry(published) for published in PUBLISHED.values()]


def available_device(device: torch.device | str) -> torch.device:
    """The device, after trying that something can be put there.

    Raises:
        ValueError: it is not the name of a device, or this machine or this PyTorch has none.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{device!r} is not a device; expected {_examples()}") from error
    try:
        if found.type == "meta":  # holds no values
            raise NotImplementedError
        torch.zeros(1, device=found).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"the device {str(found)!r} is not available here; expected {_examples()}") from error
    return found


def _examples() -> str:
    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return " or ".join(names)


def _weights() -> Traversable:
    return resources.files("pointrend") / "weights"


def _bundled() -> dict[str, Traversable]:
    folder = _weights()
    if not folder.is_dir():
        return {}
    return {file.name.removesuffix(SUFFIX): file for file in folder.iterdir() if file.name.endswith(SUFFIX)}


def _bundled_entry(name: str, file: Traversable) -> ModelEntry:
    with resources.as_file(file) as path:
        return _entry(name, read_spec(path), path.stat().st_size, "bundled")


def _published_entry(published: Published) -> ModelEntry:
    path = cached_path(published)
    if path.is_file():
        return _entry(published.name, published.spec, path.stat().st_size, "cached")
    return _entry(published.name, published.spec, published.size_bytes or published.weight_bytes, "download")


def _entry(name: str, spec: ModelSpec, size: int, source: Literal["bundled", "cached", "download"]) -> ModelEntry:
    return ModelEntry(
        name=name,
        task=spec.task,
        data=spec.data,
        licence=spec.licence,
        size_bytes=size,
        scores=spec.scores,
        source=source,
    )
