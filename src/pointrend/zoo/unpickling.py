"""Pickles opened without running anything that they ask for.

A pickle is a program: it names functions and calls them. Here every name that checkpoints are known to use leads to a
stand-in of ours, which checks what it is given and keeps it, and every other name is refused. What a stand-in makes is
bounded by the size of the file, so that a small file cannot fill the memory.
"""

from __future__ import annotations

import io
import math
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, BinaryIO

import numpy as np

from pointrend.zoo.scanning import RefusedError, scan


class Fixed:
    """Is shared by all files, so that none may change it."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise RefusedError("a change of what names refer to")


class Function(Fixed):
    """A function that a pickle may call; other than on a function itself, no attributes can be set."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


class Ignored:
    """In the place of an object of metadata whose class is of no use here."""

    def __new__(cls, *_: object) -> Ignored:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class DType:
    """In the place of a `numpy.dtype`: of numbers only."""

    def __init__(self, code: object, *_: object) -> None:
        code = code.decode("ascii", "replace") if isinstance(code, bytes) else code
        self.value = _number_type(code)

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order in (">", b">"):
            self.value = self.value.newbyteorder(">")
        elif order in ("<", b"<"):
            self.value = self.value.newbyteorder("<")


class Array:
    """In the place of a `numpy.ndarray`: its bytes, seen as what they are said to be."""

    def __init__(self, *_: object) -> None:
        self.value = np.zeros(0, np.float32)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise RefusedError("an array whose description cannot be read")
        _, shape, dtype, fortran, raw = state
        self.value = _view(raw, dtype, shape, order="F" if fortran else "C")


def array_shell(*_: object) -> Array:
    """In the place of numpy's `_reconstruct`; the content follows."""
    return Array()


def array_of_buffer(raw: object, dtype: object, shape: object, order: object = "C", *_: object) -> Array:
    """In the place of numpy's `_frombuffer`, by which pickles of protocol 5 store arrays."""
    made = Array()
    made.value = _view(raw, dtype, shape, order="F" if order == "F" else "C")
    return made


def scalar(dtype: object, raw: object = None) -> np.generic:
    """In the place of numpy's `scalar`."""
    value = _view(raw, dtype, ()).reshape(())[()]
    assert isinstance(value, np.generic)
    return value


def history_method(owner: object, name: object = None, *_: object) -> Ignored:
    """In the place of `getattr`, which mmengine's training logs use to name their own methods."""
    if owner is not Ignored or not isinstance(name, str):
        raise RefusedError("builtins.getattr")
    return Ignored()


def _number_type(code: object) -> np.dtype[Any]:
    if not isinstance(code, str):
        raise RefusedError("numpy.dtype of something that is no name")
    try:
        dtype = np.dtype(code)
    except (TypeError, ValueError) as error:
        raise RefusedError(f"numpy.dtype({code[:40]!r})") from error
    if dtype.kind not in "biuf":
        raise RefusedError(f"a numpy array of type {str(dtype)[:40]!r} (only numbers are read)")
    return dtype


def _view(raw: object, dtype: object, shape: object, *, order: Any = "C") -> np.ndarray:
    if isinstance(raw, str):  # Python 2's bytes
        raw = raw.encode("latin1")
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not isinstance(dtype, DType) or not isinstance(raw, (bytes, bytearray)):
        raise RefusedError("an array of something else than numbers")
    if not all(type(size) is int and 0 <= size < 2**40 for size in sizes):
        raise RefusedError("an array whose shape is no shape")
    if math.prod(sizes) * dtype.value.itemsize != len(raw):
        raise ValueError(f"an array of shape {sizes} is stored in {len(raw)} bytes")
    return np.frombuffer(raw, dtype.value).reshape(sizes, order=order)


# What may be in a checkpoint beside tensors. numpy 1 says numpy.core where numpy 2 says numpy._core.
STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": Array,
    "numpy.dtype": DType,
    **{f"numpy.{core}.multiarray._reconstruct": array_shell for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": array_of_buffer for core in ("core", "_core")},
}

# Metadata of training toolboxes: when and how, by plain values, and a log.
METADATA: dict[str, Callable[..., Any]] = {
    "datetime.datetime": datetime,
    "datetime.date": date,
    "datetime.time": time,
    "datetime.timedelta": timedelta,
    "datetime.timezone": timezone,
    "pathlib.PosixPath": Ignored,
    "pathlib.WindowsPath": Ignored,
    "pathlib.PurePosixPath": Ignored,
    "mmengine.logging.history_buffer.HistoryBuffer": Ignored,
    "builtins.getattr": history_method,
}


class RestrictedUnpickler(pickle.Unpickler):
    """Knows the names it is given, dicts, lists, strings and numbers.

    Args:
        file: at the pickle's beginning.
        limit: bytes of the whole file.
        names: stand-ins by the full names that a pickle may use.
    """

    def __init__(self, file: BinaryIO, *, limit: int, names: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(file, encoding="latin1")
        self._left = 4 * limit + 4096
        self._names = {
            "collections.OrderedDict": self._ordered_dict,
            "builtins.set": self._set,
            "_codecs.encode": self._encode,
            **names,
        }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The stand-in for a name; nothing is imported."""
        # Pickles up to protocol 2 use Python 2's names, "__builtin__" or "commands" for two.
        module, name = NAME_MAPPING.get(
            (module_name, global_name), (IMPORT_MAPPING.get(module_name, module_name), global_name)
        )
        full = f"{module}.{name}"
        if full not in self._names:
            raise RefusedError(full[:100])
        found: Any = self._names[full]
        # Classes stay classes, from which pickles make objects; theirs and those of Python take no state.
        return found if isinstance(found, type | Fixed) else Function(found)

    def persistent_load(self, pid: Any) -> Any:
        """Objects outside of the pickle: there are none."""
        raise RefusedError("an object outside of the file (a persistent id)")

    def _spend(self, count: int) -> None:
        self._left -= count + 1
        if self._left < 0:
            raise RefusedError("more memory than the file has bytes")

    def _ordered_dict(self, items: Any = ()) -> Any:
        self._spend(len(items))
        return OrderedDict(items)

    def _set(self, items: Any = ()) -> set[Any]:
        self._spend(len(items))
        return set(items)

    def _encode(self, text: object, encoding: object = "", *_: object) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise RefusedError(f"_codecs.encode by {str(encoding)[:40]!r} (only latin1 is harmless)")
        self._spend(len(text))
        return text.encode("latin1")


def load_plain(content: bytes) -> Any:
    """The object in a pickle of dicts, lists, strings, numbers and numpy arrays, whose arrays are `Array`.

    Raises:
        RefusedError: it asks for something else.
        Exception: of many kinds, where it is damaged.
    """
    file = io.BytesIO(content)
    scan(file)
    if file.tell() != len(content):
        raise ValueError(f"{len(content) - file.tell()} bytes too many")
    file.seek(0)
    return RestrictedUnpickler(file, limit=len(content), names=STAND_INS).load()


class Stored(Fixed):
    """The place of a tensor's numbers: how many there are."""

    __slots__ = ("numel",)

    def __init__(self, numel: int) -> None:
        self.numel = numel


class StorageType(Fixed):
    """In the place of `torch.FloatStorage` and others."""

    __slots__ = ("itemsize",)

    def __init__(self, itemsize: int) -> None:
        self.itemsize = itemsize


def _check_tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> Ignored:
    """In the place of torch's `_rebuild_tensor_v2`: whether the tensor lies inside of its storage."""
    if not isinstance(storage, Stored) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise RefusedError("torch._utils._rebuild_tensor_v2 of something that is no tensor")
    numbers = (offset, *size, *stride)
    if not all(type(n) is int and 0 <= n < 2**40 for n in numbers) or len(size) != len(stride):
        raise ValueError("a tensor whose shape is no shape")
    assert isinstance(offset, int)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if 0 not in size and (last >= storage.numel or math.prod(size) > storage.numel):
        raise ValueError(f"a tensor of shape {size} does not lie in its storage of {storage.numel} numbers")
    return Ignored()


def _check_parameter(data: object, *_: object) -> object:
    return data


def _shape(sizes: Iterable[object] = ()) -> tuple[object, ...]:
    return sizes if isinstance(sizes, tuple) else ()


_ITEM_SIZES = {
    **dict.fromkeys(("Double", "Long"), 8),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Byte", "Char", "Bool"), 1),
}
TORCH_NAMES: dict[str, Any] = {
    **{f"torch.{name}Storage": StorageType(size) for name, size in _ITEM_SIZES.items()},
    "torch._utils._rebuild_tensor_v2": _check_tensor,
    "torch._utils._rebuild_parameter": _check_parameter,
    "torch.Size": _shape,
}


class TorchInspector(RestrictedUnpickler):
    """Goes through the pickle of a PyTorch checkpoint before PyTorch does, and builds nothing.

    `torch.load(weights_only=True)` runs no foreign code, but believes sizes, and some of what it may call makes much of
    little.

    Args:
        file: at the pickle's beginning.
        limit: bytes of the whole file.
        records: the bytes that each storage has in the file, by its key; None where that is not known beforehand.
    """

    def __init__(self, file: BinaryIO, *, limit: int, records: Mapping[str, int] | None) -> None:
        super().__init__(file, limit=limit, names={**STAND_INS, **METADATA, **TORCH_NAMES})
        self._limit = limit
        self._records = records
        self._storages: dict[str, int] = {}

    def persistent_load(self, pid: Any) -> Stored:
        """The storage of a tensor, whose bytes must be in the file."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise RefusedError("an object outside of the file (a persistent id)")
        _, kind, key, _, numel = pid[:5]
        if not isinstance(kind, StorageType) or not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise RefusedError("a storage of an unknown kind")
        if len(pid) == 6 and pid[5] is not None:
            raise RefusedError("a storage that is a view of another one")
        size = numel * kind.itemsize
        if self._records is not None and self._records.get(key) != size:
            raise ValueError(f"storage {key[:40]!r} is said to have {size} bytes, but has {self._records.get(key)}")
        if self._storages.setdefault(key, size) != size or sum(self._storages.values()) > self._limit:
            raise ValueError("its tensors are said to be larger than the file")
        return Stored(numel)
