"""Attacks by checkpoints: refused by name and never run, however the file asks for it."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pointrend.zoo.reading import CheckpointFileError, read_tensors
from pointrend.zoo.unpickling import METADATA, STAND_INS, TORCH_NAMES

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.array([1.5, -2.0], np.float32)}


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items()}


def assert_read(path: Path) -> None:
    found = read_tensors(path)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {n: a.tolist() for n, a in ARRAYS.items()}


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointFileError) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


class Attack:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def attacks(canary: Path) -> dict[str, tuple[Any, str]]:
    command = f"touch {canary}"
    objects = np.array([{"a": 1}, None], dtype=object)
    return {
        "os.system": (Attack(os.system, command), f"{os.name}.system"),
        "eval": (Attack(eval, f"__import__('os').system({command!r})"), "builtins.eval"),
        "exec": (Attack(exec, f"__import__('os').system({command!r})"), "builtins.exec"),
        "getattr": (Attack(getattr, Attack(__import__, "os"), "system"), "builtins."),
        "getattr of a type": (Attack(getattr, OrderedDict, "fromkeys"), "builtins.getattr"),
        "nested": (OrderedDict(a=[(Attack(os.system, command),)]), f"{os.name}.system"),
        "argument of a call": (Attack(OrderedDict, [("a", Attack(os.system, command))]), f"{os.name}.system"),
        "object array": (objects, "'object'"),
        "attack in an object array": (np.array([Attack(os.system, command)], dtype=object), "'object'"),
        "open": (Attack(open, str(canary), "w"), "open"),
        "bytearray": (Attack(bytearray, 10**12), "builtins.bytearray"),
        "encode": (Attack(__import__("_codecs").encode, "a" * 9, "utf-16"), "utf-16"),
        "own class": (Attack(__import__("subprocess").Popen, ["touch", str(canary)]), "subprocess.Popen"),
    }


NAMES = sorted(attacks(Path("x")))


@pytest.mark.parametrize("kind", ["pkl 0", "pkl 2", "pkl 4", "pth", "old pth", "disguised"])
@pytest.mark.parametrize("name", NAMES)
def test_attacks_are_refused_by_name_and_not_run(tmp_path: Path, name: str, kind: str) -> None:
    canary = tmp_path / "it-ran"
    payload, wanted = attacks(canary)[name]
    path = tmp_path / ("x.pkl" if kind.startswith("pkl") else "x.pth")
    content = {"state_dict": tensors(), "meta": payload}
    if kind.startswith("pkl"):
        path.write_bytes(pickle.dumps({"model": ARRAYS, "x": payload}, protocol=int(kind[-1])))
    elif kind == "disguised":
        path.write_bytes(pickle.dumps(payload, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "pth")
    message = refusal(path)
    assert "asks for" in message
    assert wanted in message
    assert not canary.exists()


def test_persistent_ids_and_tensors_are_refused_in_pkl(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"

    class Outside(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("x",) if isinstance(value, str) and value == "outside" else None

    buffer = io.BytesIO()
    Outside(buffer).dump({"model": ARRAYS, "a": "outside"})
    path.write_bytes(buffer.getvalue())
    assert "persistent id" in refusal(path)
    path.write_bytes(pickle.dumps(tensors()))
    assert "torch._utils._rebuild_tensor_v2" in refusal(path)


def raw_array(shape: bytes, dtype: bytes = b"f4", data: bytes = b"abcd") -> bytes:
    """A pickle of a numpy array whose description need not be true."""
    # fmt: off
    return (b"\x80\x02}X\x01\x00\x00\x00a"
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            b"(K\x01" + shape + b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype + b"\x85R\x89"
            b"U" + bytes([len(data)]) + data + b"tbs.")
    # fmt: on


def test_arrays_that_are_no_larger_than_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(raw_array(b"K\x01\x85"))
    assert read_tensors(path)["a"].shape == (1,)
    for shape in (b"J\x00\x00\x00\x10\x85", b"J\x00\x00\x00\x10J\x00\x00\x00\x10\x86", b"J\xff\xff\xff\xff\x85"):
        path.write_bytes(raw_array(shape))
        refusal(path)
    for dtype in (b"V99999999", b"S4", b"U1", b"O8", b"M8[s]"):
        path.write_bytes(raw_array(b"K\x01\x85", dtype))
        assert "only numbers" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a memo of 2^31 places
        b"\x80\x02}X\xff\xff\xff\x7fabc.",  # a string of 2 GB
        b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00abc.",  # a bytearray of 1 TB
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",  # a frame of 8 EB
    ],
)
def test_small_pickles_that_ask_for_much_memory(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    refusal(path)


def test_repeated_encoding_cannot_fill_the_memory(tmp_path: Path) -> None:
    text = b"X" + struct.pack("<I", 10**5) + b"a" * 10**5
    again = b"c_codecs\nencode\nh\x00U\x06latin1\x86R"
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x02(" + text + b"q\x00" + again * 3000 + b"t.")
    assert "more memory" in refusal(path)


def rewritten(path: Path, change: Callable[[str, bytes], bytes], *, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))


def test_tensors_larger_than_their_storage(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    pickled = {"numel": (b"K\x08tq", b"M\xff\xfftq"), "shape": (b"K\x08\x85", b"M\xff\xff\x85")}
    for old, new in pickled.values():
        torch.save({"a": torch.arange(8.0)}, path)

        def change(name: str, content: bytes, old: bytes = old, new: bytes = new) -> bytes:
            assert not name.endswith("data.pkl") or old in content
            return content.replace(old, new) if name.endswith("data.pkl") else content

        rewritten(path, change)
        refusal(path)
    torch.save({"a": torch.zeros(1).expand(10**9)}, path)
    assert "does not lie in its storage" in refusal(path)


def test_old_files_whose_tensors_are_larger_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.arange(8.0)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    changed = content.replace(b"K\x08N", b"J\x00\x00\x00\x70N")  # of the storage
    assert changed != content
    path.write_bytes(changed)
    assert "larger than the file" in refusal(path)


def test_zip_bombs_and_zips_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(tensors(), path)
    rewritten(path, lambda name, content: content + bytes(10**6), compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(path)
    torch.save(tensors(), path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(archive.namelist()[0], b"again")
    assert "overlap" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not a checkpoint" in refusal(path)


def zipped(path: Path, *entries: tuple[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)


DEEP = b")" + b"\x85" * 300_000
NESTED = {
    "key of a dict": b"\x80\x04}" + DEEP + b"K\x01s.",
    "member of a set": b"\x80\x02c__builtin__\nset\n](" + DEEP + b"e\x85R.",
    "member of a new set": b"\x80\x04\x8f(" + DEEP + b"\x90.",
    "key of a dict of protocol 0": b"(" + DEEP + b"K\x01d.",
    "frozen set": b"\x80\x04(" + DEEP + b"\x91.",
    "by the memo": b"\x80\x04})" + b"\x94h\x00\x86" * 150_000 + b"K\x01s.",
    "behind a popped mark": b"\x80\x04})" + b"(0\x85" * 150_000 + b"K\x01s.",
}


@pytest.mark.parametrize("kind", ["pkl", pytest.param("pth", marks=pytest.mark.slow)])
def test_deep_nesting_does_not_end_the_interpreter(tmp_path: Path, kind: str) -> None:
    """In another process: what is noticed too late is a segmentation fault."""
    paths = [tmp_path / f"{name}.{kind}" for name in NESTED]
    for path, content in zip(paths, NESTED.values(), strict=True):
        if kind == "pkl":
            path.write_bytes(content)
        else:
            zipped(path, ("a/data.pkl", content))
    program = """
import sys
from pathlib import Path
from pointrend.zoo.reading import CheckpointFileError, read_tensors
for path in sys.argv[1:]:
    try:
        read_tensors(Path(path))
    except CheckpointFileError as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert [line.count("nested more than 100 deep") for line in ran.stdout.splitlines()] == [1] * len(NESTED)


def test_zips_in_which_names_mean_two_files(tmp_path: Path) -> None:
    harmless = pickle.dumps({}, protocol=2)
    path = tmp_path / "x.pth"
    for other in ("a/DATA.PKL", "A/data.PKL", "a/d\u0101ta.pkl", "a\\data.pkl", "b/data.bin", "version", "a/\x1b"):
        zipped(path, ("a/data.pkl", harmless), (other, b"?"))
        assert "zip archive" in refusal(path)
    zipped(path, ("a/data.pkl", harmless), ("a/version", b"3\n"))
    assert "holds no weights" in refusal(path)


NAMED = ["collections.OrderedDict", "builtins.set", "_codecs.encode", *STAND_INS, *METADATA, *TORCH_NAMES]


@pytest.mark.parametrize("kind", ["pkl", "pth"])
def test_what_names_refer_to_cannot_be_changed(tmp_path: Path, kind: str) -> None:
    state = {"dict": b"}U\x01xK\x01s", "slots": b"N}U\x01xK\x01s\x86"}
    objects = {name: "c{}\n{}\n".format(*name.rsplit(".", 1)).encode() for name in NAMED}
    objects["a storage"] = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x02tQ"
    for name, made in objects.items():
        for change in state.values():
            path = tmp_path / f"x.{kind}"
            content = b"\x80\x02" + made + change + b"b."
            if kind == "pkl":
                path.write_bytes(content)
            else:
                zipped(path, ("a/data.pkl", content), ("a/data/0", bytes(8)))
            said = refusal(path)
            assert "asks for" in said or "setstate" in said or "attribute" in said or "mappingproxy" in said, name
    for old in (False, True):
        torch.save({"state_dict": tensors()}, tmp_path / "good.pth", _use_new_zipfile_serialization=not old)
        assert_read(tmp_path / "good.pth")
    (tmp_path / "good.pkl").write_bytes(pickle.dumps(OrderedDict(ARRAYS), protocol=2))
    assert_read(tmp_path / "good.pkl")


def test_nothing_that_a_terminal_obeys_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x02cos\x1b[2J\nsystem\n.")
    assert "os\\x1b[2J.system" in refusal(path)
    path.write_bytes(pickle.dumps({"\x1b[2J\n": 1}))
    assert "\x1b" not in refusal(path)


def shared(code: bytes) -> bytes:
    """A pickle of pairs that hold the pair before twice, which `code` hashes: 2^80 tuples in 400 bytes."""
    pairs = b"".join(b"q%c" % i + b"h%c" % i + b"\x86" for i in range(80))
    return b"\x80\x02(" + b")" + pairs + code


def both(tmp_path: Path, content: bytes) -> list[Path]:
    """The same pickle in a `.pkl` and in a `.pth`."""
    (tmp_path / "x.pkl").write_bytes(content)
    zipped(tmp_path / "x.pth", ("a/data.pkl", content), ("a/data/0", bytes(32)))
    return [tmp_path / "x.pkl", tmp_path / "x.pth"]


@pytest.mark.parametrize("code", [b"K\x01d.", b"\x91."])
def test_shared_tuples_are_not_hashed(tmp_path: Path, code: bytes) -> None:
    for path in both(tmp_path, shared(code)):
        assert "more memory or time" in refusal(path)


ORDERED = b"ccollections\nOrderedDict\nq\x010"
PAIRS = b"](" + b"".join(b"M" + struct.pack("<H", i) + b"K\x01\x86" for i in range(10000)) + b"eq\x000"
STATE = b"}(" + b"".join(b"U\x05%05dK\x01" % i for i in range(10000)) + b"uq\x000"
MUCH_OF_LITTLE = {
    "one large integer as the key again and again": b"}\x8b" + struct.pack("<I", 10**6) + b"\x01" * 10**6 + b"q\x000"
    + b"h\x00K\x01s" * 20000,
    "one list of pairs made into many dicts": PAIRS + ORDERED + b"h\x01h\x00\x85R" * 3000,
    "one state given to many dicts": STATE + ORDERED + b"h\x01)Rh\x00b" * 3000,
    "many arguments given to many calls": b"(U\x02f4" + b"K\x01" * 10**5 + b"tq\x000"
    + b"cnumpy\ndtype\nq\x010" + b"h\x01h\x00R" * 10**5,
}  # fmt: skip


@pytest.mark.parametrize("name", MUCH_OF_LITTLE)
def test_small_files_cannot_take_much_memory_or_time(tmp_path: Path, name: str) -> None:
    for path in both(tmp_path, b"\x80\x02(" + MUCH_OF_LITTLE[name] + b"t."):
        assert "more memory or time" in refusal(path)


def test_one_text_for_many_arrays_is_not_copied(tmp_path: Path) -> None:
    """Python 2's bytes are text, of which each array needs bytes: but not before it is known to be a weight."""
    text = b"T" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"q\x000"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state = b"(K\x01J\x40\x42\x0f\x00\x85cnumpy\ndtype\nU\x02u1\x85R\x89h\x00tb"
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x02" + text + b"}(" + b"".join(b"U\x02%02d" % i + array + state for i in range(9)) + b"u.")
    assert "more memory" in refusal(path)


def test_tensors_of_very_many_dimensions(tmp_path: Path) -> None:
    ones = b"(" + b"K\x01" * 1000 + b"tq\x000"
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x08tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00h\x00h\x00\x89NtR"
    path = tmp_path / "x.pth"
    zipped(path, ("a/data.pkl", b"\x80\x02" + ones + b"}U\x01a" + tensor + b"s."), ("a/data/0", bytes(32)))
    assert "shape" in refusal(path)


@pytest.mark.parametrize("old", [False, True])
def test_many_tensors_take_time_in_proportion(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "x.pth"
    torch.save({f"t{i}": torch.zeros(1) for i in range(3000)}, path, _use_new_zipfile_serialization=not old)
    assert len(read_tensors(path)) == 3000
    values = torch.arange(3000.0)
    torch.save({f"t{i}": values[i : i + 1] for i in range(3000)}, path, _use_new_zipfile_serialization=not old)
    assert read_tensors(path)["t2999"].tolist() == [2999.0]


def test_folders_in_zips(tmp_path: Path) -> None:
    """PyTorch would take what was in the memory for the content of a file that is marked as a folder."""
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(1024)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0x10 if name.endswith("/data/0") else 0
            archive.writestr(entry, content)
    assert "folders" in refusal(path)
