"""Checkpoints of other toolboxes, read without executing anything that is in them.

The format is that of the content, whatever the file is called. What can be noticed of damage depends on the format: a
`.pth` has checksums, which are verified; `.pkl`, `.safetensors` and `.pth` from before PyTorch 1.6 have none, so that a
number that changed is found by the file's sha256 only.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from pointrend.zoo.modelfile import ModelFileError, shown
from pointrend.zoo.scanning import RefusedError, scan
from pointrend.zoo.unpickling import METADATA, STAND_INS, Array, TorchInspector, load_plain

ZIP_MAGIC = b"PK\x03\x04"
# The pickled number by which torch.save began until PyTorch 1.6, at any pickle protocol.
OLD_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
PLAIN_NAME = re.compile(r"[ -\[\]-~]+")
"""Printable ASCII but a backslash."""
WRAPPERS = ("state_dict", "model")
"""Under these keys mmsegmentation and detectron2 keep the weights."""


class CheckpointFileError(ModelFileError):
    """A checkpoint that cannot be used; the message is one line unless `many_lines`."""

    many_lines = False


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The weights in a `.pth`, `.pkl` or `.safetensors` file, by the names they have there, on the CPU.

    Raises:
        CheckpointFileError: the file is missing, empty, damaged, no checkpoint, or asks for what is not harmless; one
            line that names the file, and what it asked for.
    """
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
            if kind == "safetensors":
                return _read_safetensors(path)
            found = load_plain(file.read()) if kind == "pickle" else _read_torch(file, size, zipped=kind == "zip")
            return _tensors(found, size)
        except CheckpointFileError as error:
            raise CheckpointFileError(f"{path}: {error}") from error
        except RefusedError as error:
            asked = shown(str(error), length=200)
            raise CheckpointFileError(
                f"{path}: refused, because it asks for {asked}, which no checkpoint needs; nothing of it was run"
            ) from error
        except Exception as error:  # broken files fail in as many ways as there are bytes
            raise CheckpointFileError(f"{path}: {_failure(kind, head)} ({_line(error)})") from error


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
    return "the file is damaged or truncated, or no checkpoint; download it again"


def _line(error: Exception) -> str:
    return shown(" ".join(str(error).split()) or type(error).__name__, length=200)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt", device="cpu") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _read_torch(file: BinaryIO, size: int, *, zipped: bool) -> Any:
    if zipped:
        _inspect_zip(file, size)
    else:
        _inspect_old(file, size)
    file.seek(0)
    # What inspection let pass and PyTorch does not know itself is given to it as the same stand-ins.
    named: list[Any] = [(stand_in, name) for name, stand_in in (STAND_INS | METADATA).items()]
    with torch.serialization.safe_globals(named):
        return torch.load(file, map_location="cpu", weights_only=True)


def _inspect_zip(file: BinaryIO, size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        # PyTorch finds files by their names in any case, and its idea of other characters may differ from Python's.
        names = [entry.orig_filename for entry in entries]
        if not all(PLAIN_NAME.fullmatch(name) for name in names):
            raise CheckpointFileError("a zip archive of files with strange names, which PyTorch does not write")
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise CheckpointFileError("a zip archive with compressed files, which PyTorch does not write")
        if len({name.lower() for name in names}) != len(names) or sum(entry.file_size for entry in entries) > size:
            raise CheckpointFileError("a zip archive whose files overlap, which PyTorch does not write")
        # PyTorch reads nothing of what is marked as a folder, and takes what was in the memory for its content.
        if any(entry.external_attr & 0x10 or entry.orig_filename.endswith("/") for entry in entries):
            raise CheckpointFileError("a zip archive with folders in it, which PyTorch does not write")
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len({name.partition("/")[0] for name in names}) != 1:
            raise CheckpointFileError("a zip archive, but not a checkpoint that torch.save wrote")
        if (damaged := archive.testzip()) is not None:
            raise CheckpointFileError(f"damaged: the checksum of {damaged} differs; download it again")
        prefix = pickles[0].removesuffix("data.pkl") + "data/"
        records = {e.filename.removeprefix(prefix): e.file_size for e in entries if e.filename.startswith(prefix)}
        content = io.BytesIO(archive.read(pickles[0]))
    scan(content)
    content.seek(0)
    TorchInspector(content, limit=size, records=records).load()


def _inspect_old(file: BinaryIO, size: int) -> None:
    """The layout before PyTorch 1.6: magic, version, system, the object, the storages' keys, then their bytes."""
    for _ in range(5):
        start = file.tell()
        scan(file)
        end = file.tell()
        file.seek(start)
        TorchInspector(io.BytesIO(file.read(end - start)), limit=size, records=None).load()
        file.seek(end)


def _tensors(found: Any, size: int) -> dict[str, Tensor]:
    if isinstance(found, Mapping):
        found = next((found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping)), found)
    if not isinstance(found, Mapping) or not found:
        raise CheckpointFileError(f"holds no weights, but a {type(found).__name__}")
    tensors: dict[str, Tensor] = {}
    for name, value in found.items():
        tensor = _tensor(value)
        if not isinstance(name, str) or tensor is None:
            raise CheckpointFileError(
                f"holds no weights: {str(name)[:60]!r} is a {type(value).__name__}; "
                f"expected tensors by name, at the top or under {' or '.join(map(repr, WRAPPERS))}"
            )
        if isinstance(value, Array):  # the others were not copied
            size -= tensor.numel() * tensor.element_size()
        if size < 0:
            raise RefusedError("more memory than the file has bytes")
        tensors[name] = tensor
    return tensors


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach() if value.layout is torch.strided else None
    if isinstance(value, (Array, np.generic)):
        array = np.asarray(value.value if isinstance(value, Array) else value)
        if array.dtype.kind not in "biuf":
            return None
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    return None
