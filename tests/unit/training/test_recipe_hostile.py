"""Recipes and checkpoints that someone made to do harm, or damaged: one short line each, at once."""

from __future__ import annotations

import io
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pointrend.training.checkpoint import CheckpointError, TrainingState, load_checkpoint
from pointrend.training.recipe import RecipeError, from_yaml, load_recipe, to_yaml
from pointrend.training.yaml_text import YamlError, read_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


def refused(path: Path, text: str | bytes, overrides: tuple[str, ...] = ()) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    start = time.monotonic()
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path), overrides)
    assert time.monotonic() - start < 20
    message = str(caught.value)
    assert message.startswith(f"recipe {path}: ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 500
    return message


CASES: list[tuple[str | bytes, str]] = [
    (LAUGHS, "line 1 refers to another value by & or *; settings must be written out"),
    ("a: *b", "by & or *"),
    ("optim: &o {lr: 1}", "by & or *"),
    ("a: " + "[" * 5000, "nested more than 20 deep"),
    ("{a: " * 3000, "nested more than 20 deep"),
    (b"name: \xff\xfe", "not text in UTF-8 (invalid start byte at byte 6)"),
    ("x" * 200_000, "expected at most 100000 characters"),
    ("name: x\nname: y", "line 2 gives name a second time"),
    ("optim:\n  lr: 1\n  lr: 2", "line 3 gives lr a second time"),
    ("optim: {lr: .inf}", "optim.lr: input should be a finite number, got inf"),
    ("optim: {lr: .nan}", "optim.lr"),
    ("loss: {sampling: {num_points: 9, oversample: .nan}}", "loss.sampling.oversample"),
    ("train: {seed: " + "9" * 5000 + "}", "not YAML (Exceeds the limit"),
    ("train: {iterations: 0x" + "f" * 5000 + "}", "line 1 has an integer beyond 2^63: a number of about 6021 digits"),
    ("optim:", "optim: input should be a valid dictionary or instance of OptimSettings, got None"),
    ("test: null", "test: input should be"),
    ("model: [1, 2]", "model: input should be"),
    ("train: {batch_size: " + "x" * 50_000 + "}", "train.batch_size"),
    ("task: [1]", "unknown task [1]; expected one of semantic"),
    ("task: " + "x" * 50_000, "unknown task 'xxx"),
    ("- 1", "expected settings by name, got list"),
    ("", "expected settings by name, got NoneType"),
    ("1: 2", "1: keys should be strings, got 1"),
    ("? " + ("k" * 50_000) + "\n: 2", "there is no setting kkk"),
    ('"\\e[2J": 2', "there is no setting \\x1b[2J"),
    ("name: [\x00", "not YAML"),
    ("a: 2001-99-99", "not YAML (month must be in 1..12)"),
    ("a: !!int ''", "not YAML"),
    ("a: !!timestamp x", "not YAML"),
    ("a: " + ":".join(["59"] * 500) + ".5", "not YAML"),
    ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ("? [a, b]\n: 1", "not YAML"),
]


@pytest.mark.parametrize(("text", "said"), CASES, ids=range(len(CASES)))
def test_recipes(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert said in refused(tmp_path / "a.yaml", text)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("optim.lr=&a [*a]", "is not a YAML value (line 1 refers to another value"),
        ("optim.lr=.inf", "optim.lr"),
        ("optim.lr=1e999", "optim.lr"),
        ("optim.lr=" + "[" * 3000, "nested more than 20 deep"),
        ("train.seed=" + "9" * 5000, "is not a YAML value"),
        ("train.seed=" + "x" * 90_000, "train.seed"),
        ("x" * 90_000 + "=1", "there is no setting"),
        ("x" * 90_000, "--set expects key=value, got 'xxx"),
        ("\x1b[2J=1", "there is no setting \\x1b[2J"),
    ],
    ids=lambda v: v[:12],
)
def test_settings_of_the_command(value: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("people-lite0", [value])
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800


def test_yaml_that_settings_need() -> None:
    assert read_yaml("{a: [1, 2.5, null, true], b: {c: x}}") == {"a": [1, 2.5, None, True], "b": {"c": "x"}}
    with pytest.raises(YamlError, match="gives a a second time"):
        read_yaml("{a: 1, a: 1}")


def test_texts_in_checkpoints() -> None:
    recipe = load_recipe("people-lite0")
    assert from_yaml(to_yaml(recipe)) == recipe
    for text in ("", "[1]", LAUGHS, "task: dancing", "name: x\ntask: semantic\noptim: 5", "a: ["):
        with pytest.raises(RecipeError) as caught:
            from_yaml(text)
        assert "\n" not in str(caught.value)


GOOD: dict[str, Any] = vars(
    TrainingState(recipe="name: x", iteration=5, best=1.5, network={}, optimizer={"state": {}}, average=None)
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": 5}, "its recipe is a int"),
        ({"iteration": "5"}, "its iteration is a str"),
        ({"iteration": True}, "its iteration is a bool"),
        ({"iteration": -1}, "its iteration is -1"),
        ({"best": None}, "its best is a NoneType"),
        ({"network": [1]}, "its network is a list"),
        ({"network": {"a": 1}}, "its network holds something else than tensors by name"),
        ({"average": {1: torch.ones(1)}}, "its average holds something else"),
        ({"optimizer": None}, "its optimizer is a NoneType"),
        ({"more\x1b": 1}, r"it has 'more\x1b', which is unknown"),
        ({"version": 99}, "checkpoint version 99, this pointrend reads 2"),
        ({"version": "x" * 10**5}, "checkpoint version 'xxx"),
        ({"version": None}, "it has no version"),
    ],
)
def test_fields_of_checkpoints(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "last.pt"
    torch.save(GOOD | change, path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 300


@pytest.mark.parametrize("content", [torch.ones(2), [1], "text", 5, {}, {"recipe": "x"}])
def test_other_contents_of_checkpoints(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "last.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        load_checkpoint(path)


def test_checkpoints_that_would_never_end(tmp_path: Path) -> None:
    nested = b")" + b"".join(b"q%c" % i + b"h%c" % i + b"\x86" for i in range(80))
    path = tmp_path / "last.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}" + nested + b"K\x01s.")
        archive.writestr("a/version", b"3\n")
    with pytest.raises(CheckpointError, match="more memory or time"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(GOOD))
    with pytest.raises(CheckpointError, match=r"not a file that torch\.save wrote"):
        load_checkpoint(path)


def test_truncated_checkpoints(tmp_path: Path) -> None:
    path, buffer = tmp_path / "last.pt", io.BytesIO()
    torch.save(GOOD | {"network": {"w": torch.ones(50)}}, buffer)
    content = buffer.getvalue()
    path.write_bytes(content)
    assert load_checkpoint(path).network["w"].sum() == 50
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="not a training checkpoint") as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
