"""Read pickles without running anything that they ask for.

A pickle is a program: it names functions and calls them. Names that checkpoints use are replaced by stand-ins, which
check their arguments, and every other name is refused. The size of the file bounds memory and time.
"""

from __future__ import annotations

import math
import pickle
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sized
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, BinaryIO, ClassVar

import numpy as np

MAX_DEPTH = 100
"""Maximum nesting of tuples in a key of a dict or a member of a set."""
MAX_DIMENSIONS = 32
MAX_TENSORS = 10_000
"""Maximum number of tensors in a checkpoint: an R-CNN with X-101 has 700, and a training keeps three more for each."""


class RefusedError(ValueError):
    """A pickle asks for something that no checkpoint needs; the message names it."""


class Function:
    """Wraps a function that a pickle may call, so that the pickle cannot set its attributes."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> None:
        raise RefusedError("a change of what names refer to")


class Ignored:
    """Replaces an object of metadata, and drops its content."""

    def __new__(cls, *_: object) -> Ignored:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


class DType:
    """Replaces `numpy.dtype`; only types of numbers are allowed."""

    def __init__(self, code: object, *_: object) -> None:
        code = code.decode("ascii", "replace") if isinstance(code, bytes) else code
        if not isinstance(code, str) or len(code) > MAX_DIMENSIONS:
            raise RefusedError("numpy.dtype without a name")
        try:
            self.value = np.dtype(code)
        except (TypeError, ValueError) as error:
            raise RefusedError(f"numpy.dtype({code!r})") from error
        if self.value.kind not in "biuf":
            raise RefusedError(f"a numpy array of type {str(self.value)!r} (only numbers are read)")

    def __setstate__(self, state: object) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order in ("<", b"<", ">", b">"):
            self.value = self.value.newbyteorder("<" if order in ("<", b"<") else ">")


class Array:
    """Replaces `numpy.ndarray`: keeps its bytes and their description, without a copy until `value` is read."""

    def __init__(self, *_: object) -> None:
        # As in numpy's `_reconstruct`, the content follows as a state.
        self.__setstate__((1, (0,), DType("f4"), False, b""))

    def __setstate__(self, state: object) -> None:
        """Keep bytes and their description, after checking that the description fits them."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise RefusedError("an array whose description cannot be read")
        _, shape, dtype, fortran, raw = state
        sizes = shape if isinstance(shape, tuple) else (shape,)
        if not isinstance(dtype, DType) or not isinstance(raw, (str, bytes, bytearray)):
            raise RefusedError("an array that does not hold numbers")
        if len(sizes) > MAX_DIMENSIONS or not all(type(size) is int and 0 <= size < 2**40 for size in sizes):
            raise RefusedError("an array of an invalid shape")
        if math.prod(sizes) * dtype.value.itemsize != len(raw):
            raise ValueError(f"an array of shape {sizes} is stored in {len(raw)} bytes")
        self._content = raw, dtype.value, sizes, bool(fortran)

    @property
    def value(self) -> np.ndarray:
        """The array; it shares memory with the bytes where Python 3 wrote them."""
        raw, dtype, shape, fortran = self._content
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 wrote bytes as text
        return np.asarray(np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C"))


def array_of_buffer(raw: object, dtype: object, shape: object, order: object = "C", *_: object) -> Array:
    """Replaces numpy's `_frombuffer`, which pickles of protocol 5 call for arrays."""
    array = Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


def scalar(dtype: object, raw: object = None) -> Any:
    """Replaces numpy's `scalar`."""
    return array_of_buffer(raw, dtype, ()).value[()]


def history_method(owner: object, name: object = None, *_: object) -> Ignored:
    """Replaces `getattr`, which mmengine's training logs use to name their methods."""
    if owner is not Ignored or not isinstance(name, str):
        raise RefusedError("builtins.getattr")
    return Ignored()


# Used for objects beside tensors. numpy.core is the name in numpy 1, numpy._core in numpy 2.
STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": Array,
    "numpy.dtype": DType,
    **{f"numpy.{core}.multiarray._reconstruct": Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": array_of_buffer for core in ("core", "_core")},
}

# Used by training toolboxes for metadata: times, paths and a log.
METADATA: dict[str, Callable[..., Any]] = {
    **{f"datetime.{kind.__name__}": kind for kind in (datetime, date, time, timedelta, timezone)},
    **{f"pathlib.{kind}": Ignored for kind in ("PosixPath", "WindowsPath", "PurePosixPath")},
    "mmengine.logging.history_buffer.HistoryBuffer": Ignored,
    "builtins.getattr": history_method,
}


def _guarded(code: bytes, guard: Any) -> Any:
    """Return the handler of an opcode, with `guard` called before it."""
    step: Any = pickle._Unpickler.dispatch[code[0]]
    return lambda unpickler: (guard(unpickler), step(unpickler))


def _load_bytearray(unpickler: RestrictedUnpickler) -> None:
    """Read a bytearray; Python's own function allocates memory before it compares the length with the file."""
    (length,) = struct.unpack("<Q", unpickler.read(8))
    unpickler.stack.append(bytearray(unpickler.read(length)))


_GUARDS: dict[bytes, Callable[[Any], None]] = {
    # These opcodes hash objects,
    pickle.DICT: lambda self: self.check_keys(self.stack[::2]),
    pickle.SETITEM: lambda self: self.check_keys(self.stack[-2:-1]),
    pickle.SETITEMS: lambda self: self.check_keys(self.stack[::2]),
    pickle.ADDITEMS: lambda self: self.check_keys(self.stack),
    pickle.FROZENSET: lambda self: self.check_keys(self.stack),
    # and these copy arguments, or a state.
    pickle.REDUCE: lambda self: self.count_parts(self.stack[-1]),
    pickle.NEWOBJ: lambda self: self.count_parts(self.stack[-1]),
    pickle.BUILD: lambda self: self.check_state(self.stack[-1]),
}


class RestrictedUnpickler(pickle._Unpickler):
    """Reads dicts, lists, sets, strings, numbers, and objects of the stand-ins `names`; `limit` is the file's size.

    It derives from the unpickler in Python, because the one in C cannot check keys, and allocates what a file asks for.
    """

    stack: list[Any]
    read: Callable[[int], bytes]
    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        **{code[0]: _guarded(code, guard) for code, guard in _GUARDS.items()},
        pickle.BYTEARRAY8[0]: _load_bytearray,
    }
    # Checkpoints have neither calls with keywords nor persistent ids as text.
    del dispatch[pickle.NEWOBJ_EX[0]], dispatch[pickle.PERSID[0]]

    def __init__(self, file: BinaryIO, *, limit: int, names: Mapping[str, Any]) -> None:
        super().__init__(file, encoding="latin1")
        self._left = 4 * limit + 4096
        self._hashes: Counter[int] = Counter()
        self._keys: set[object] = set()
        self._names: dict[str, Any] = {
            "collections.OrderedDict": self._ordered_dict,
            "builtins.set": self._set,
            "_codecs.encode": self._encode,
            **names,
        }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return the stand-in for a name; nothing is imported."""
        # Pickles up to protocol 2 use Python 2's names, "__builtin__" for one.
        renamed = IMPORT_MAPPING.get(module_name, module_name), global_name
        full = ".".join(NAME_MAPPING.get((module_name, global_name), renamed))
        if full not in self._names:
            raise RefusedError(full[:100])
        found = self._names[full]
        # A pickle cannot set the state of a class or a number, so these need no wrapper.
        return found if isinstance(found, type | int) else Function(found)

    def spend(self, count: int) -> None:
        """Count objects that are copied or hashed.

        Raises:
            RefusedError: the file is too small to hold so many.
        """
        self._left -= count + 1
        if self._left < 0:
            raise RefusedError("more memory or time than the size of the file explains")

    def count_parts(self, value: object) -> None:
        """Count the parts of arguments, or of a state, which may be two dicts."""
        for part in (value, *value) if isinstance(value, tuple) and len(value) == 2 else (value,):
            self.spend(len(part) if isinstance(part, Sized) else 0)

    def check_state(self, state: object) -> None:
        """Count the parts of a state, whose keys are hashed once more."""
        self.count_parts(state)
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            if isinstance(part, dict):
                self.check_keys(part)

    def check_keys(self, keys: Iterable[object]) -> None:
        """Raise a RefusedError if hashing would take too long, or so many nested calls that the interpreter crashes.

        Dicts compare a key with all that have the same hash, and everyone can find numbers with the same.
        """
        for key in keys:
            cost = self._spent_on(key)
            # Hashes of texts are random, and those of small integers differ.
            if not isinstance(key, str | bytes | bool | None) and not (isinstance(key, int) and abs(key) < 2**60):
                found = hash(key)
                self.spend(cost * self._hashes[found])
                self._hashes[found] += key not in self._keys
                self._keys.add(key)

    def _spent_on(self, key: object) -> int:
        """Count what hashing a key, and comparing it with another, looks at."""
        before, level = self._left, [key]
        for _ in range(MAX_DEPTH):
            groups = [item for item in level if isinstance(item, tuple | frozenset)]
            integers = sum(item.bit_length() // 512 for item in level if isinstance(item, int))
            texts = sum(len(item) // 256 for item in level if isinstance(item, str | bytes))
            self.spend(len(level) + sum(map(len, groups)) + integers + texts)
            level = [item for group in groups for item in group]
            if not level:
                return before - self._left
        raise RefusedError(f"objects nested more than {MAX_DEPTH} deep")

    def _ordered_dict(self, items: Any = ()) -> Any:
        self.spend(len(items))
        pairs = list(items.items() if isinstance(items, dict) else items)
        self.check_keys(key for key, _ in pairs)
        return OrderedDict(pairs)

    def _set(self, items: Any = ()) -> set[Any]:
        self.check_keys(items)
        return set(items)

    def _encode(self, text: object, encoding: object = "", *_: object) -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            # Not by its text: that of an object may be endless.
            asked = repr(encoding[:40]) if isinstance(encoding, str) else f"a {type(encoding).__name__}"
            raise RefusedError(f"_codecs.encode by {asked} (only latin1 is harmless)")
        self.spend(len(text))
        return text.encode("latin1")


class Stored:
    """Replaces a storage or a tensor; a pickle cannot change it."""

    __slots__ = ()


def _check_size(size: object = ()) -> tuple[object, ...]:
    if not isinstance(size, tuple) or len(size) > MAX_DIMENSIONS:
        raise RefusedError("a tensor of an invalid shape")
    return size


_STORAGES = {1: "Byte Char Bool", 2: "Half BFloat16 Short", 4: "Float Int", 8: "Double Long"}
TORCH_NAMES: dict[str, Any] = {
    # A storage's type is replaced by the bytes of one of its numbers.
    **{f"torch.{name}Storage": size for size, names in _STORAGES.items() for name in names.split()},
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.Size": _check_size,
}


class TorchInspector(RestrictedUnpickler):
    """Checks the pickle of a PyTorch checkpoint before PyTorch reads it, and builds nothing.

    `torch.load(weights_only=True)` runs no foreign code, but lets a small file take much memory and time. `records` are
    the bytes of each storage in the file, by its key; None if they are not known beforehand.
    """

    def __init__(self, file: BinaryIO, *, limit: int, records: Mapping[str, int] | None) -> None:
        tensor = {"torch._utils._rebuild_tensor_v2": self._tensor}
        super().__init__(file, limit=limit, names={**STAND_INS, **METADATA, **TORCH_NAMES, **tensor})
        self._unread = limit
        self._records = records
        self._storages: dict[str, int] = {}
        self._tensors = 0

    def _tensor(self, storage: object, offset: object, size: object, *_: object) -> Stored:
        """Replaces torch's `_rebuild_tensor_v2`, which limits neither dimensions nor the number of tensors."""
        _check_size(size)
        if not isinstance(storage, Stored):
            raise RefusedError("torch._utils._rebuild_tensor_v2 without a storage")
        self._tensors += 1
        if self._tensors > MAX_TENSORS:
            raise RefusedError(f"more than {MAX_TENSORS} tensors")
        return Stored()

    def persistent_load(self, pid: Any) -> Stored:
        """Return the storage of a tensor, after checking that the file has its bytes."""
        if not isinstance(pid, tuple) or pid[0:1] != ("storage",) or pid[5:] not in ((), (None,)):
            raise RefusedError("an object outside of the file (a persistent id)")
        _, itemsize, key, _, numel = pid[:5]
        if type(itemsize) is not int or not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise RefusedError("a storage of an unknown kind")
        size = numel * itemsize
        if self._records is not None and self._records.get(key) != size:
            raise ValueError(f"storage {key[:40]!r} should have {size} bytes, but has {self._records.get(key)}")
        if key not in self._storages:
            self._storages[key] = size
            self._unread -= size
        if self._storages[key] != size or self._unread < 0:
            raise ValueError("its tensors would be larger than the file")
        return Stored()
