"""Read checkpoints of other toolboxes without executing anything that is in them.

The content tells the format, whatever the file is called. A `.pth` has checksums, which are verified; `.pkl`,
`.safetensors` and a `.pth` from before PyTorch 1.6 have none, so that only the file's SHA-256 shows a changed number.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from pointrend.errors import printable, warn
from pointrend.zoo.modelfile import ModelFileError
from pointrend.zoo.unpickling import (
    MAX_TENSORS,
    METADATA,
    STAND_INS,
    Array,
    RefusedError,
    RestrictedUnpickler,
    TorchInspector,
)

ZIP_MAGIC = b"PK\x03\x04"
# The pickled number at the start of files of torch.save until PyTorch 1.6, at any pickle protocol.
OLD_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
PLAIN_NAME = re.compile(r"[ -\[\]-~]+")
"""Printable ASCII without the backslash."""
WRAPPERS = ("state_dict", "model")
"""Keys under which mmsegmentation and detectron2 keep the weights."""
AVERAGES = ("ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema", "module")
"""Keys under which other toolboxes keep averaged weights, or those of a parallel network."""
MAX_WRAPPERS = 4
"""Maximum number of wrappers in each other."""


class CheckpointFileError(ModelFileError):
    """A checkpoint that cannot be used; the message is one line unless `many_lines`."""

    many_lines = False


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the weights in a `.pth`, `.pkl` or `.safetensors` file, by the names they have there, on the CPU.

    Raises:
        CheckpointFileError: the file is missing, empty, damaged, not a checkpoint, or asks for something that may do
            harm; one line that names the file, and what it asked for.
    """
    with _opened(path) as (file, size, kind):
        if kind == "safetensors":
            return _read_safetensors(path)
        found = _read_pickle(file, size) if kind == "pickle" else _read_torch(file, size, zipped=kind == "zip")
        found, wrappers = _unwrapped(found)
        tensors = _tensors(found, size)
    if any(key in AVERAGES for key in wrappers):
        where = " in ".join(map(repr, reversed(wrappers)))
        warn(f"{path}: the weights are those under {where}")
    return tensors


def read_saved(path: Path) -> Any:
    """Return what `torch.save` wrote to a file: tensors on the CPU and plain values.

    Raises:
        CheckpointFileError: as `read_tensors`.
    """
    with _opened(path) as (file, size, kind):
        if kind not in ("zip", "old torch"):
            raise CheckpointFileError("not a file that torch.save wrote")
        return _read_torch(file, size, zipped=kind == "zip")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int, str]]:
    """Open a file, and yield it with its size and its kind; what fails within becomes one line that names the file."""
    if not path.is_file():
        raise CheckpointFileError(f"{path}: no such file")
    size = path.stat().st_size
    if size == 0:
        raise CheckpointFileError(f"{path}: the file is empty; download it again")
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        kind = _kind(head, size)
        try:
            yield file, size, kind
        except CheckpointFileError as error:
            raise CheckpointFileError(f"{path}: {error}") from error
        except RefusedError as error:
            asked = printable(str(error), length=200)
            raise CheckpointFileError(
                f"{path}: refused, because it asks for {asked}, which no checkpoint needs; nothing of it was run"
            ) from error
        except Exception as error:  # broken files fail in many ways
            reason = printable(" ".join(f"{type(error).__name__}: {error}".split()), length=200)
            raise CheckpointFileError(f"{path}: {_failure(kind, head)} ({reason})") from error


def _kind(head: bytes, size: int) -> str:
    if head.startswith(ZIP_MAGIC):
        return "zip"
    if head[2:].startswith(OLD_TORCH_MAGIC):
        return "old torch"
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= size - 8:
        return "safetensors"
    return "pickle"


def _failure(kind: str, head: bytes) -> str:
    if kind == "pickle" and not head.startswith(b"\x80"):
        return "not a checkpoint; expected a .pth, .pkl or .safetensors file"
    return "the file is damaged or truncated, or not a checkpoint; download it again"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt", device="cpu") as opened:
        _check_count(len(opened.keys()))
    return load_file(path)


def _check_count(tensors: int) -> None:
    if tensors > MAX_TENSORS:
        raise CheckpointFileError(f"holds more than {MAX_TENSORS} tensors, which no model has")


def _read_pickle(file: BinaryIO, size: int) -> Any:
    found = RestrictedUnpickler(file, limit=size, names=STAND_INS).load()
    if file.tell() != size:
        raise ValueError(f"{size - file.tell()} bytes follow the pickle")
    return found


def _read_torch(file: BinaryIO, size: int, *, zipped: bool) -> Any:
    if zipped:
        content, records = _open_zip(file, size)
        TorchInspector(io.BytesIO(content), limit=size, records=records).load()
    else:
        # Until PyTorch 1.6: magic, version, system, the object, the storages' keys, then their bytes.
        for _ in range(5):
            TorchInspector(file, limit=size, records=None).load()
    file.seek(0)
    # PyTorch replaces names that it does not know by the same stand-ins as the inspection.
    named: list[Any] = [(stand_in, name) for name, stand_in in (STAND_INS | METADATA).items()]
    with torch.serialization.safe_globals(named), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols, which do not concern who reads a checkpoint
        return torch.load(file, map_location="cpu", weights_only=True)


def _open_zip(file: BinaryIO, size: int) -> tuple[bytes, dict[str, int]]:
    """Read the pickle in a zip archive, and the sizes of the storages beside it.

    This is Python's reader of archives, and PyTorch reads the file later with its own: archives that the two could
    understand differently are refused, and the checksums, which PyTorch ignores, are verified.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        _check_count(len(entries) - 16)  # there are a few other files
        names = [entry.orig_filename for entry in entries]
        oddities = {
            # PyTorch ignores the case of names, and may read other characters differently than Python.
            "strange names": not all(PLAIN_NAME.fullmatch(name) for name in names),
            "compressed files": any(entry.compress_type or entry.flag_bits & 1 for entry in entries),
            "files that overlap": len({name.lower() for name in names}) != len(names)
            or sum(entry.file_size for entry in entries) > size,
            # PyTorch does not read entries marked as folders, and returns uninitialised memory for them.
            "folders": any(entry.external_attr & 0x10 or entry.orig_filename.endswith("/") for entry in entries),
        }
        if odd := [what for what, present in oddities.items() if present]:
            raise CheckpointFileError(f"a zip archive with {odd[0]}, which PyTorch does not write")
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len({name.partition("/")[0] for name in names}) != 1:
            raise CheckpointFileError("a zip archive, but not a checkpoint that torch.save wrote")
        if (damaged := archive.testzip()) is not None:
            raise CheckpointFileError(f"damaged: the checksum of {damaged} differs; download it again")
        prefix = pickles[0].removesuffix("data.pkl") + "data/"
        sizes = {entry.filename.removeprefix(prefix): entry.file_size for entry in entries}
        return archive.read(pickles[0]), sizes


def _unwrapped(found: Any) -> tuple[Any, list[str]]:
    """Return what may be weights by name, and the keys that it lay under."""
    wrappers: list[str] = []
    for _ in range(MAX_WRAPPERS):
        if not isinstance(found, Mapping):
            break
        key = next((key for key in (*WRAPPERS, *AVERAGES) if isinstance(found.get(key), Mapping)), None)
        if key is None:
            break
        wrappers.append(key)
        found = found[key]
    return found, wrappers


def _tensors(found: Any, size: int) -> dict[str, Tensor]:
    if not isinstance(found, Mapping) or not found:
        raise CheckpointFileError(f"holds no weights, but a {type(found).__name__}")
    _check_count(len(found))
    tensors: dict[str, Tensor] = {}
    for name, value in found.items():
        tensor = _tensor(value)
        if not isinstance(name, str) or tensor is None:
            raise CheckpointFileError(
                f"holds no weights: {_shown(name)} is a {type(value).__name__}; "
                f"expected tensors by name, at the top or under {' or '.join(map(repr, WRAPPERS))}"
            )
        count = tensor.numel() * tensor.element_size()
        if count > tensor.untyped_storage().nbytes():
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} does not lie in its storage")
        if isinstance(value, Array):  # the others were not copied
            size -= count
        if size < 0:
            raise RefusedError("more memory than the file has bytes")
        tensors[name] = tensor
    return tensors


def _shown(name: object) -> str:
    """Return a name for a message; of something else its type alone, as its text may be endless."""
    return repr(name[:60]) if isinstance(name, str) else f"what a {type(name).__name__} names"


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach() if value.layout is torch.strided else None
    if isinstance(value, (Array, np.generic)):
        array = np.asarray(value.value if isinstance(value, Array) else value)
        if array.dtype.kind not in "biuf":
            return None
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    return None
