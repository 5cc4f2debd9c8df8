"""Damaged checkpoints: an error of one class or the same weights; never another error, never other weights.

That holds for what can be noticed: a `.pth` has checksums. A `.pkl` or `.safetensors` has none, so that a changed byte
of a number gives another number, of the same name and shape; only the file's sha256 tells.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from pointrend.zoo.reading import CheckpointFileError, read_tensors

ARRAYS = {
    "backbone.conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) - 7.25,
    "backbone.bn1.running_var": np.array([1.0, 0.5], np.float32),
    "backbone.bn1.num_batches_tracked": np.array(5, np.int64),
}
TENSORS = {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items()}
META = {"epoch": 3, "lr": np.float64(0.5), "CLASSES": ("road", "car"), "time": "Sat"}


def torch_bytes(*, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"meta": META, "state_dict": TENSORS}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


FILES: dict[str, bytes] = {
    "zip.pth": torch_bytes(zipped=True),
    "old.pth": torch_bytes(zipped=False),
    "protocol2.pkl": pickle.dumps({"model": ARRAYS, "lr": np.float64(1.5)}, protocol=2),
    "protocol4.pkl": pickle.dumps({"model": ARRAYS, "lr": np.float64(1.5)}, protocol=4),
    "x.safetensors": save(TENSORS),
}
# Zips are checked whole; the others' numbers and names have no checksum.
CHECKED = {"zip.pth"}
FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, content: bytes) -> dict[str, torch.Tensor] | None:
    """What was read, or None where it was refused in one line."""
    path.write_bytes(content)
    try:
        return read_tensors(path)
    except CheckpointFileError as error:
        message = str(error)
    assert "\n" not in message
    assert message.startswith(str(path))
    return None


def is_whole(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == TENSORS.keys() and all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("name", sorted(FILES))
def test_whole_files(tmp_path: Path, name: str) -> None:
    found = read(tmp_path / name, FILES[name])
    assert found is not None
    assert is_whole(found)


@pytest.mark.parametrize("name", sorted(FILES))
@FUZZ
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated(tmp_path: Path, name: str, share: float) -> None:
    assert read(tmp_path / name, FILES[name][: int(share * len(FILES[name]))]) is None


def flip(content: bytes, places: list[tuple[float, int]]) -> bytes:
    changed = bytearray(content)
    for place, value in places:
        changed[int(place * len(changed))] ^= value
    return bytes(changed)


places = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3)


@pytest.mark.parametrize("name", sorted(FILES))
@FUZZ
@given(places=places)
def test_flipped_bytes(tmp_path: Path, name: str, places: list[tuple[float, int]]) -> None:
    found = read(tmp_path / name, flip(FILES[name], places))
    if found is not None and name in CHECKED:
        assert is_whole(found)
    if found is not None:  # whatever was read is no larger than the file
        assert sum(t.numel() * t.element_size() for t in found.values()) <= len(FILES[name])


@pytest.mark.parametrize("value", [1, 32, 255])
def test_every_byte_of_a_zip(tmp_path: Path, value: int) -> None:
    content = FILES["zip.pth"]
    for place in range(value % 7, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= value
        found = read(tmp_path / "x.pth", bytes(changed))
        assert found is None or is_whole(found), place


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
@example(b"\x80\x04.")
@example(b"PK\x03\x04")
def test_anything(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path / "x.pkl", content) is None
    assert read(tmp_path / "x.pkl", b"\x80\x02" + content) is None


@pytest.mark.parametrize("make", [lambda b: b * 2, lambda b: b[len(b) // 2 :], lambda b: b[::-1]])
def test_shuffled(tmp_path: Path, make: Callable[[bytes], bytes]) -> None:
    for name in ("protocol2.pkl", "protocol4.pkl", "x.safetensors"):
        assert read(tmp_path / name, make(FILES[name])) is None
