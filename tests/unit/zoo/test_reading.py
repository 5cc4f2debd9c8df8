"""Reading foreign checkpoints: what real files hold is read, what attacks ask for is refused by name and never run."""

from __future__ import annotations

import datetime
import pathlib
import pickle
import struct
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pointrend.zoo.reading import CheckpointFileError, read_tensors

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a.bias": np.array([1.5, -2.0], np.float32)}


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items()}


def assert_read(path: Path) -> None:
    found = read_tensors(path)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == torch.float32
        assert found[name].numpy().tolist() == array.tolist()


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointFileError) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("old", [False, True])
def test_pth(tmp_path: Path, wrapper: str | None, old: bool) -> None:
    path = tmp_path / "x.pth"
    content: Any = OrderedDict(tensors())
    torch.save({wrapper: content} if wrapper else content, path, _use_new_zipfile_serialization=not old)
    assert_read(path)


@pytest.mark.parametrize("protocol", range(6))
def test_pkl_of_numpy_arrays(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"model": ARRAYS, "__author__": "someone", "n": np.float32(3)}, protocol=protocol))
    assert_read(path)


@pytest.mark.parametrize("protocol", [2, 4])
def test_pkl_with_the_other_numpys_names(tmp_path: Path, protocol: int) -> None:
    written = pickle.dumps({"model": OrderedDict(ARRAYS)}, protocol=protocol)
    if protocol == 2:  # strings of protocol 4 carry their length
        other = written.replace(b"numpy._core", b"numpy.core")
        other = written.replace(b"numpy.core", b"numpy._core") if other == written else other
    else:
        other = written.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
        other = other[:3] + struct.pack("<Q", len(other) - 11) + other[11:]
    assert other != written
    path = tmp_path / "x.pkl"
    path.write_bytes(other)
    assert_read(path)


def test_pkl_fortran_order_and_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    content = {"a.weight": np.asfortranarray(ARRAYS["a.weight"]), "a.bias": ARRAYS["a.bias"].astype(">f4")}
    path.write_bytes(pickle.dumps(content, protocol=2))
    assert_read(path)


def test_safetensors_and_formats_are_told_by_content(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".pth", ".pkl"):
        path = tmp_path / f"s{suffix}"
        save_file(tensors(), path)
        assert dict(read_tensors(path)).keys() == ARRAYS.keys()
    torch.save(tensors(), tmp_path / "x.pkl")
    assert_read(tmp_path / "x.pkl")
    (tmp_path / "x.pth").write_bytes(pickle.dumps(ARRAYS))
    assert_read(tmp_path / "x.pth")


@pytest.fixture
def history_class(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class that pickles under the name of mmengine's log, with its own methods inside, as there."""
    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self) -> None:
            self.log = np.array([1.0, 2.0])
            self.methods = OrderedDict(mean=HistoryBuffer.mean)

        def mean(self) -> float:
            return float(self.log.mean())

    HistoryBuffer.__module__ = module.__name__
    HistoryBuffer.__qualname__ = "HistoryBuffer"
    HistoryBuffer.mean.__module__ = module.__name__
    HistoryBuffer.mean.__qualname__ = "HistoryBuffer.mean"
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return HistoryBuffer


@pytest.mark.parametrize("old", [False, True])
def test_metadata_of_toolboxes_is_harmless(tmp_path: Path, history_class: type, old: bool) -> None:
    meta = {
        "epoch": 3, "time": datetime.datetime(2020, 7, 11), "lr": np.float64(0.1), "seed": np.int64(7),
        "CLASSES": ("road", "person"), "PALETTE": np.zeros((2, 3), np.uint8), "done": {1, 2},
        "work_dir": pathlib.PurePosixPath("a/b"), "hub": {"loss": history_class()},
    }  # fmt: skip
    path = tmp_path / "x.pth"
    torch.save({"meta": meta, "state_dict": tensors()}, path, _use_new_zipfile_serialization=not old)
    assert_read(path)


@pytest.mark.parametrize("name", ["x.pth", "x.pkl", "x.safetensors", "old.pth"])
def test_truncated_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".pth"):
        torch.save(tensors(), path, _use_new_zipfile_serialization=not name.startswith("old"))
    elif name.endswith(".pkl"):
        path.write_bytes(pickle.dumps(ARRAYS))
    else:
        save_file(tensors(), path)
    content = path.read_bytes()
    for length in {1, 2, 9, len(content) // 2, len(content) - 1}:
        path.write_bytes(content[:length])
        refusal(path)
    if not name.startswith("old"):
        path.write_bytes(content + b"}.")  # something follows
        if name != "x.pth":  # a zip may be followed by a comment
            refusal(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "not a checkpoint"),
        (b"\x89PNG\r\n\x1a\n0000", "not a checkpoint"),
        (bytes(100), "not a checkpoint"),
        (pickle.dumps([1, 2]), "holds no weights"),
        (pickle.dumps({}), "holds no weights"),
        (pickle.dumps({"model": {"a": "text"}}), "'a' is a str"),
        (pickle.dumps({"epoch": 3}), "'epoch' is a int"),
        (pickle.dumps({3: ARRAYS["a.bias"]}), "holds no weights"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    assert expected in refusal(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nothing.pth")
    assert "no such file" in refusal(tmp_path)


@pytest.mark.parametrize("protocol", range(6))
def test_long_is_not_deep(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "x.pkl"
    nested: Any = 1
    for _ in range(20):
        nested = {"a": [(nested,)]}
    path.write_bytes(pickle.dumps({"model": ARRAYS, "n": nested, "list": [[i] for i in range(5000)]}, protocol))
    assert_read(path)


def test_changed_weights_in_a_zip_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(tensors(), path)
    content = bytearray(path.read_bytes())
    place = bytes(content).index(ARRAYS["a.weight"].tobytes())
    content[place + 9] ^= 1
    path.write_bytes(content)
    assert "checksum" in refusal(path)
