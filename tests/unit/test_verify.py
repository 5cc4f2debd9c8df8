"""Comparing a model to a reference, and the two commands for checkpoints, on a small network."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pointrend.cli import main
from pointrend.data.classes import CITYSCAPES
from pointrend.models import PointArchitecture, SemanticArchitecture
from pointrend.references import ReferenceFileError, SemanticReference, reference_image
from pointrend.references.semantic import compute
from pointrend.spec import SemanticSpec, SemanticTest
from pointrend.verify import read_reference, verify
from pointrend.zoo import Model, load_model
from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.modelfile import METADATA_KEY, network_of

SPEC = SemanticSpec(
    name="small",
    num_logits=19,
    architecture=SemanticArchitecture(
        backbone="resnet14t", fpn_channels=16, coarse_channels=32, point=PointArchitecture(hidden=8, depth=2)
    ),
    classes=CITYSCAPES,
    test=SemanticTest(pad_multiple=32),
)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    network = network_of(SPEC)
    torch.nn.init.normal_(network.point_head.classifier.weight)
    return Model(network, SPEC).eval()


# Of the image of 24 x 32 and seed 7, by the rule that the published references were made with.
FIRST = [[170, 98, 164], [151, 140, 138], [118, 165, 112]]
TOTAL = 297851

NUMBERS = {"height": 40, "width": 50, "seed": 3, "num_points": 60}


def write(path: Path, model: Model, **changes: Any) -> Path:
    """A reference that the model itself computed."""
    empty = SemanticReference(**NUMBERS, tensors={})
    computed = compute(model.network, model.spec, empty)  # type: ignore[arg-type]
    found = {name: tensor.numpy() for name, tensor in computed.items()}
    found["c2"], found["p2"] = found["c2"][:8], found["p2"][:4]
    content = {k: v for k, v in (NUMBERS | found | changes).items() if v is not None}
    np.savez(path, **content)
    return path


def test_a_model_agrees_with_itself_and_with_no_other(tmp_path: Path, model: Model) -> None:
    reference = read_reference(write(tmp_path / "r.npz", model))
    checks = verify(model, reference)
    assert [c.name for c in checks] == ["c2", "c5", "p2", "coarse", "logits"]
    assert all(c.ok and c.difference < 1e-6 for c in checks)
    assert reference.tensors["logits"].shape == (19, 64, 64)  # of the padded input
    torch.manual_seed(1)
    other = verify(Model(network_of(SPEC), SPEC).eval(), reference)
    assert not any(c.ok for c in other)


def test_some_pixels_of_the_logits_may_differ_and_none_of_others(tmp_path: Path, model: Model) -> None:
    reference = read_reference(write(tmp_path / "r.npz", model))
    for name in ("logits", "coarse"):
        for pixels, ok in ((20, name == "logits"), (21, False)):  # 0.5 % of 64 x 64 are 20.48
            changed = reference.tensors[name].clone()
            changed[4].view(-1)[:pixels] += 1.0
            one = read_reference(write(tmp_path / "r.npz", model, **{name: changed.numpy()}))
            check = next(c for c in verify(model, one) if c.name == name)
            assert check.ok is ok
            assert check.difference > 0.01


def test_numbers_that_are_none_fail(tmp_path: Path, model: Model) -> None:
    reference = read_reference(write(tmp_path / "r.npz", model))
    broken = network_of(SPEC).eval()
    torch.nn.init.constant_(broken.coarse_head.classifier.bias, torch.nan)
    with pytest.raises(ValueError, match="coarse logits must be finite, got nan"):
        verify(Model(broken, SPEC), reference)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": None}, "no 'seed'"),
        ({"c9": np.zeros((1, 2, 2))}, "'c9' is unknown"),
        ({"height": 0}, "out of range"),
        ({"num_points": 1.5}, "whole numbers"),
        ({"coarse": np.full((19, 16, 16), np.nan)}, "finite"),
        ({"coarse": np.array([None])}, "not a .npz file of numbers"),
    ],
)
def test_what_is_no_reference(tmp_path: Path, model: Model, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ReferenceFileError, match=expected):
        read_reference(write(tmp_path / "r.npz", model, **changes))


def test_files_that_are_no_references(tmp_path: Path, model: Model) -> None:
    for content in (b"", b"PK\x03\x04abc", b"hello", write(tmp_path / "r.npz", model).read_bytes()[:-30]):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(ReferenceFileError, match=r"x\.npz"):
            read_reference(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", **NUMBERS)
    with pytest.raises(ReferenceFileError, match="at least one of the tensors"):
        read_reference(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", **NUMBERS, coarse=np.ones((18, 16, 16), np.float32))
    with pytest.raises(ReferenceFileError, match="of another model"):
        verify(model, read_reference(tmp_path / "x.npz"))


def test_the_image_stays_what_it_was() -> None:
    image = reference_image(24, 32, 7)
    assert image.shape == (24, 32, 3)
    assert image[0, :3].tolist() == FIRST
    assert int(image.astype(np.int64).sum()) == TOTAL


@pytest.fixture
def zoo(model: Model, tmp_path: Path) -> Iterator[Path]:
    """A published model, and its checkpoint as mmsegmentation would have written it."""
    published = dict(PUBLISHED)
    PUBLISHED.clear()
    small = {"source": "mmsegmentation", "url": "https://example.org/a.pth", "sha256": None, "size_bytes": None}
    PUBLISHED["small"] = Published.model_validate({"spec": SPEC, "weight_bytes": 1, **small})
    theirs = {mmsegmentation_name(k): v for k, v in model.network.state_dict().items()}
    path = tmp_path / "theirs.pth"
    torch.save({"state_dict": theirs, "meta": {"epoch": 1}}, path)
    yield path
    PUBLISHED.clear()
    PUBLISHED.update(published)  # in their order, by which models are recognised


def mmsegmentation_name(name: str) -> str:
    if name.startswith("coarse_head.levels."):
        _, _, level, block, kind, rest = name.split(".")
        return f"decode_head.0.scale_heads.{level}.{2 * int(block)}.{('conv', 'bn')[int(kind)]}.{rest}"
    if name.startswith(("pyramid.", "point_head.layers.")):
        parts = name.split(".")
        kind = {"inner_blocks": "neck.lateral_convs", "layer_blocks": "neck.fpn_convs", "layers": "decode_head.1.fcs"}
        return f"{kind[parts[1]]}.{parts[2]}.conv.{parts[-1]}"
    for ours, theirs in (
        ("backbone.model.conv1", "backbone.stem"), ("backbone.model.bn1", "backbone.stem.7"),
        ("backbone.model", "backbone"), ("coarse_head.classifier", "decode_head.0.conv_seg"),
        ("point_head.classifier", "decode_head.1.fc_seg"),
    ):  # fmt: skip
        if name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    raise AssertionError(name)


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    code = caught.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize("named", [True, False])
def test_convert_makes_a_file_that_stands_alone(zoo: Path, model: Model, tmp_path: Path, named: bool) -> None:
    out = tmp_path / "new" / "ours.safetensors"
    assert run("convert", zoo, "--out", out, *(["--model", "small"] if named else [])) == 0
    del PUBLISHED["small"]
    loaded = load_model(out)
    assert loaded.spec == SPEC
    for name, value in model.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)


def test_convert_never_replaces_what_is_not_ours(zoo: Path, tmp_path: Path, capsys: Any) -> None:
    photo = tmp_path / "x.safetensors"
    photo.write_bytes(b"precious")
    assert run("convert", zoo, "--out", photo) == 2
    assert photo.read_bytes() == b"precious"
    assert run("convert", zoo, "--out", tmp_path / "x.pth") == 2
    assert run("convert", zoo, "--out", tmp_path / "y.safetensors", "--model", "smal") == 2
    assert "nearest names are small" in capsys.readouterr().err
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    assert run("convert", tmp_path / "other.pth", "--out", tmp_path / "y.safetensors") == 1
    assert run("convert", tmp_path / "other.pth", "--out", tmp_path / "y.safetensors", "--model", "small") == 1
    error = capsys.readouterr().err
    assert error.count("pointrend: error:") == len(error.splitlines()) == 2
    assert not (tmp_path / "y.safetensors").exists()


def test_verify_tells_by_its_exit_code(zoo: Path, model: Model, tmp_path: Path, capsys: Any) -> None:
    reference = write(tmp_path / "r.npz", model)
    assert run("verify", zoo, "--model", "small", "--reference", reference) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["c2", "c5", "p2", "coarse", "logits"]
    assert all(line.endswith(" ok") for line in lines)
    run("convert", zoo, "--out", tmp_path / "ours.safetensors")
    capsys.readouterr()
    write(reference, model, num_points=200)
    arguments = ("--model", "small", "--reference", reference, "--json")
    assert run("verify", tmp_path / "ours.safetensors", *arguments) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [t["ok"] for t in told["tensors"]] == [True] * 4 + [False]
    assert run("verify", zoo, "--model", "smal", "--reference", reference) == 2
    assert run("verify", tmp_path / "nothing.pth", "--model", "small", "--reference", reference) == 1
    assert run("verify", zoo, "--model", "small", "--reference", tmp_path / "nothing.npz") == 1


SMALL = {"coarse": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "c2": np.arange(12.0).reshape(3, 2, 2)}


def reference_bytes(*, compressed: bool) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **NUMBERS, **SMALL)
    return buffer.getvalue()


REFERENCES = [reference_bytes(compressed=compressed) for compressed in (False, True)]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.sampled_from(REFERENCES), place=st.integers(0, 10**6), value=st.integers(1, 255))
def test_damaged_references_are_refused_in_one_line(tmp_path: Path, content: bytes, place: int, value: int) -> None:
    changed = bytearray(content)
    changed[place % len(content)] ^= value
    (tmp_path / "x.npz").write_bytes(changed)
    try:
        found = read_reference(tmp_path / "x.npz")
    except ReferenceFileError as error:
        said = str(error)
    else:
        assert all(tensor.isfinite().all() for tensor in found.tensors.values())
        return
    assert said.startswith(str(tmp_path / "x.npz"))
    assert "\n" not in said


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8", "<f2", "longdouble"])
def test_numbers_of_any_machine(tmp_path: Path, dtype: str) -> None:
    np.savez(tmp_path / "x.npz", **NUMBERS, coarse=np.asfortranarray(SMALL["coarse"].astype(dtype)))
    found = read_reference(tmp_path / "x.npz").tensors["coarse"]
    assert found.dtype == (torch.float32 if np.dtype(dtype).itemsize <= 4 else torch.float64)
    assert found.tolist() == SMALL["coarse"].tolist()


def test_verify_says_what_is_wrong_with_a_file_of_ours(zoo: Path, model: Model, tmp_path: Path, capsys: Any) -> None:
    reference = write(tmp_path / "r.npz", model)
    description = json.loads(SPEC.model_dump_json()) | {"format_version": 99}
    save_file({"a": torch.zeros(1)}, tmp_path / "new.safetensors", {METADATA_KEY: json.dumps(description)})
    assert run("verify", tmp_path / "new.safetensors", "--model", "small", "--reference", reference) == 1
    assert "model format 99" in capsys.readouterr().err
