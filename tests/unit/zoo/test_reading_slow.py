"""Files that would keep the reader busy for very long: refused, or read, in a time that fits their size."""

from __future__ import annotations

import io
import json
import pickle
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pointrend.errors import shown
from pointrend.zoo import ModelFileError, load_model, read_model
from pointrend.zoo.convert import recognise, to_model
from pointrend.zoo.manifest import PUBLISHED
from pointrend.zoo.modelfile import METADATA_KEY
from pointrend.zoo.reading import CheckpointFileError, read_tensors

NESTED = b")" + b"".join(b"q%c" % i + b"h%c" % i + b"\x86" for i in range(80))
"""Leaves a pair of a pair of a pair ... on the stack: 2^80 tuples in 400 bytes."""
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x08tQ"


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Fails a test that took minutes of the processor, where it would take hours without what it tests."""
    start = time.process_time()
    yield
    assert time.process_time() - start < 300


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def files(tmp_path: Path, content: bytes) -> list[Path]:
    """The same pickle in a `.pkl`, in a `.pth`, and in one of PyTorch before 1.6."""
    paths = [tmp_path / name for name in ("x.pkl", "x.pth", "old.pth")]
    paths[0].write_bytes(content)
    with zipfile.ZipFile(paths[1], "w") as archive:
        for name, part in {"data.pkl": content, "data/0": bytes(32), "version": b"3\n"}.items():
            archive.writestr(f"a/{name}", part)
    old = io.BytesIO()
    torch.save({}, old, _use_new_zipfile_serialization=False)
    head = io.BytesIO(old.getvalue())
    for _ in range(3):  # magic, version, system
        pickle.Unpickler(head).load()
    paths[2].write_bytes(old.getvalue()[: head.tell()] + content + pickle.dumps([]))
    return paths


def refusals(tmp_path: Path, content: bytes) -> list[str]:
    messages = []
    for path in files(tmp_path, content):
        with pytest.raises(CheckpointFileError) as caught:
            read_tensors(path)
        messages.append(str(caught.value))
        assert messages[-1].startswith(str(path))
        assert "\n" not in messages[-1]
        assert len(messages[-1]) < len(str(path)) + 400
    return messages


PLACES = {
    "encoding": b"c_codecs\nencode\n" + text("a") + NESTED + b"\x86R.",
    "text to encode": b"c_codecs\nencode\n" + NESTED + text("a") + b"\x86R.",
    "top": NESTED + b".",
    "value": b"}" + text("a") + NESTED + b"s.",
    "key": b"}" + NESTED + b"K\x01s.",
    "size": b"ctorch\nSize\n" + NESTED + b"\x85R.",
    "offset": b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + NESTED + b"K\x01\x85K\x01\x85\x89NtR.",
    "shape": b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00" + NESTED + b"\x85K\x01\x85\x89NtR.",
    "persistent id": b"(" + NESTED + b"tQ.",
    "persistent id of a storage": STORAGE.replace(b"tQ", NESTED + b"tQ."),
    "type": b"cnumpy\ndtype\n" + NESTED + b"\x85R.",
    "date": b"cdatetime\ndatetime\n" + NESTED + b"\x85R.",
    "ordered": b"ccollections\nOrderedDict\n]" + NESTED + b"a\x85R.",
    "set": b"c__builtin__\nset\n]" + NESTED + b"a\x85R.",
    "state": b"ccollections\nOrderedDict\n)R" + NESTED + b"b.",
    "function": NESTED + b")R.",
}


@pytest.mark.parametrize("place", PLACES)
def test_shared_tuples_are_neither_walked_nor_shown(tmp_path: Path, place: str) -> None:
    refusals(tmp_path, b"\x80\x04" + PLACES[place])


def number(value: int) -> bytes:
    return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


EQUAL = [number((2**61 - 1) * i) for i in range(1, 50_000)]
"""Numbers of the same hash, 0."""
LONG = b"(" + b"K\x01" * 200_000 + b"tq\x000"
COSTLY = {
    "numbers of one hash": b"}(" + b"".join(n + b"N" for n in EQUAL) + b"u.",
    "tuples of one hash": b"}(" + b"".join(b"(" + n + b"tN" for n in EQUAL) + b"u.",
    "a set of one hash": b"\x8f(" + b"".join(EQUAL) + b"\x90.",
    "a state with a long key, given again and again": b"(" + LONG + b"}h\x00Nsq\x010"
    + b"ccollections\nOrderedDict\n)R" + b"h\x01b" * 60_000 + b"t.",
    "a long text as the key, and another one that is equal": b"(" + (b"T\x00\x00\x20\x00" + b"a" * 2**21 + b"q\x000")
    + (b"T\x00\x00\x20\x00" + b"a" * 2**21 + b"q\x010") + b"}h\x00Ns" + b"h\x01Ns" * 200_000 + b"t.",
    "equal frozen sets": b"(" + (b"(" + b"".join(EQUAL[:500]) + b"\x91q\x000") + (b"(" + b"".join(EQUAL[:500])
    + b"\x91q\x010") + b"}h\x00Ns" + b"h\x01Ns" * 300_000 + b"t.",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "equal frozen sets" else name for name in COSTLY]
)
def test_keys_that_take_long_to_compare(tmp_path: Path, name: str) -> None:
    for said in refusals(tmp_path, b"\x80\x04" + COSTLY[name]):
        assert "more memory or time" in said


def test_keys_of_trainings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    state = {i: {"step": i, 0.5: (1, 2), None: True, (1, "a"): {1, 2}} for i in range(500)}
    torch.save({"state_dict": {"a": torch.ones(2)}, "optimizer": {"state": state}, "meta": {-1: "x", 2**70: 1}}, path)
    assert read_tensors(path)["a"].tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["pth", "shared.pth", "old.pth", "pkl", "safetensors", "ours"])
def test_far_too_many_tensors(tmp_path: Path, kind: str) -> None:
    count = 10_001
    path = tmp_path / f"x.{kind}"
    values = torch.zeros(count)
    if kind == "pkl":
        path.write_bytes(pickle.dumps({f"t{i}": np.zeros(1, np.float32) for i in range(count)}))
    elif kind in ("safetensors", "ours"):
        save_file({f"t{i}": torch.zeros(1) for i in range(count)}, path, {METADATA_KEY: "{}"} if kind == "ours" else {})
    elif kind == "pth":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", pickle.dumps({}))
            for i in range(count + 16):
                archive.writestr(f"a/data/{i}", b"")
    else:
        named = {f"t{i}": values[i : i + 1] for i in range(count)}
        torch.save(named, path, _use_new_zipfile_serialization=not kind.startswith("old"))
    with pytest.raises(ModelFileError, match=r"more than 10000 tensors") as caught:
        read_model(path) if kind == "ours" else read_tensors(path)
    assert str(caught.value).startswith(str(path))


def test_many_names_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every published model is compared with the file, but the names are translated once for each toolbox."""
    from pointrend.zoo import convert

    asked = []
    monkeypatch.setattr(convert, "our_name", lambda name, source: asked.append(name))
    with pytest.raises(CheckpointFileError, match="fit no published model"):
        recognise({f"t{i}": torch.zeros(1) for i in range(50)})
    assert len(asked) == 100
    asked.clear()
    with pytest.raises(CheckpointFileError, match="no name in it"):
        to_model({f"t{i}": torch.zeros(1) for i in range(50)}, next(iter(PUBLISHED.values())))
    assert len(asked) <= 300


def test_specs_that_are_huge_or_nested(small_file: Path, tmp_path: Path) -> None:
    tensors, path = load_file(small_file), tmp_path / "x.safetensors"

    def said(spec: str) -> str:
        save_file(tensors, path, {METADATA_KEY: spec})
        with pytest.raises(ModelFileError) as caught:
            load_model(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert message.isprintable()
        assert len(message) < len(str(path)) + 500
        return message

    assert "has 5000000 characters, expected at most 4194304" in said(" " * 5_000_000)
    for value in ("[" * 500 + "]" * 500, '{"a":' * 400 + "1" + "}" * 400, '"' + "x" * 10**6 + '"', "9" * 4000):
        said('{"format_version": 2, "task": ' + value + "}")
        said('{"format_version": 1, "task": "semantic", "name": "x", "num_logits": ' + value + "}")
        said('{"format_version": ' + value + "}")
        said('{"format_version": 2, "task": "semantic", "architecture": ' + value + "}")
    said(json.dumps({"format_version": 2, "task": "\x1b[2J" * 1000}))
    said(json.dumps({"format_version": 2, "task": "semantic", "\x1b[2J" * 1000: 1, "name": "x"}))


def test_values_are_shown_shortly() -> None:
    assert shown("a") == "'a'"
    assert shown([1, "b"]) == "[1, 'b']"
    nested: object = ()
    for _ in range(100):
        nested = (nested, nested)
    for value in (nested, "x" * 10**6, 16**5000, [[["x" * 100] * 100] * 100] * 100, {"a" * 200: 1}):
        assert len(shown(value)) < 110
    assert shown(16**5000) == "a number of about 6021 digits"
    assert shown("\x1b[2J\n").isprintable()
