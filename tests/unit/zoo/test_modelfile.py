from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pointrend.spec import SemanticSpec, num_logits
from pointrend.zoo import Model
from pointrend.zoo.modelfile import METADATA_KEY, ModelFileError, read_model, read_spec, save_model

Rewrite = Callable[..., Path]


@pytest.fixture
def rewrite(small_file: Path, small_spec: SemanticSpec, tmp_path: Path) -> Rewrite:
    """Writes the small model again with something changed in its description or tensors."""

    def write(
        change: Callable[[dict[str, Any]], Any] = lambda fields: None, tensors: Any = None, **metadata: str
    ) -> Path:
        fields = json.loads(small_spec.model_dump_json())
        change(fields)
        path = tmp_path / "changed.safetensors"
        save_file(
            load_file(small_file) if tensors is None else tensors, path, {METADATA_KEY: json.dumps(fields)} | metadata
        )
        return path

    return write


def message(path: Path, read: Callable[[Path], object] = read_model) -> str:
    with pytest.raises(ModelFileError) as error:
        read(path)
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said


def test_what_is_written_is_read(small_file: Path, small_model: Model) -> None:
    model = read_model(small_file)
    assert model.spec == small_model.spec == read_spec(small_file)
    assert not model.network.training
    expected = small_model.network.state_dict()
    for key, value in model.network.state_dict().items():
        assert torch.equal(value, expected[key])
        assert value.dtype == expected[key].dtype


def test_half_precision_halves_the_file_and_is_read_as_float32(
    small_file: Path, small_model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "half.safetensors"
    save_model(small_model, path, dtype=torch.float16)
    assert path.stat().st_size < 0.55 * small_file.stat().st_size
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        half, whole = read_model(path).network(images).coarse, small_model.network.eval()(images).coarse
    assert half.dtype == torch.float32
    assert torch.allclose(half, whole, atol=0.02 * float(whole.std()) + 1e-3)
    counters = [k for k, v in load_file(path).items() if not v.is_floating_point()]
    assert counters
    assert all(k.endswith("num_batches_tracked") for k in counters)


def test_a_failed_write_leaves_what_was_there(
    small_file: Path, small_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(small_file.read_bytes())

    def fail(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:1000])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        save_model(small_model, path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    assert path.read_bytes() == small_file.read_bytes()


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 5000, -1])
def test_truncated_files_are_refused(small_file: Path, tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(small_file.read_bytes()[:length])
    assert "not a safetensors file, or damaged" in message(path)
    assert "not a safetensors file, or damaged" in message(path, read_spec)


def test_what_is_no_model_is_refused(small_file: Path, tmp_path: Path) -> None:
    assert "no such model file" in message(tmp_path / "missing.safetensors")
    assert "no such model file" in message(tmp_path)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    assert "not a pointrend model" in message(other)
    torch.save({"weight": torch.zeros(2)}, other)
    assert "not a safetensors file" in message(other)


def test_a_newer_format_says_to_upgrade(rewrite: Rewrite) -> None:
    path = rewrite(lambda fields: fields.update(format_version=3, something_new=1))
    assert "model format 3, this pointrend reads up to 2: upgrade pointrend" in message(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.pop("format_version"), "format_version"),
        (lambda f: f.pop("classes"), "wrong at classes"),
        (lambda f: f.pop("architecture"), "wrong at architecture"),
        # The backbone has a default, whose weights are others.
        (lambda f: f["architecture"].pop("backbone"), "the weights do not fit the architecture it names"),
        (lambda f: f["architecture"].update(backbone=5), "wrong at architecture.backbone"),
        (lambda f: f.update(num_logits=7), "3 class names, but the network has 7 logits"),
        (lambda f: f["architecture"].update(depht=7), "architecture.depht"),
        (lambda f: f["test"]["subdivision"].update(steps=-1), "wrong at test.subdivision: expected steps"),
        (lambda f: f["test"]["subdivision"].update(stepps=1), "wrong at test.subdivision.stepps"),
        (lambda f: f.update(task="dancing"), "wrong at task"),
        (lambda f: f["architecture"].update(fpn_channels=2**40), "wrong at architecture.fpn_channels"),
        (lambda f: f["architecture"]["point"].update(depth=10**6), "wrong at architecture.point.depth"),
        (lambda f: f["architecture"].update({"\x1b[2J": 1}), r"wrong at architecture.\x1b[2J"),
        (lambda f: f["architecture"].update(backbone="resnet_50_typo"), "resnet_50_typo"),
    ],
)
def test_a_wrong_description_names_the_place(
    rewrite: Rewrite, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    assert said in message(rewrite(change))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "9" * 5000])
def test_a_description_that_is_no_object_is_refused(rewrite: Rewrite, text: str) -> None:
    assert "description" in message(rewrite(**{METADATA_KEY: text}))


def test_tensors_that_do_not_fit_are_named(rewrite: Rewrite, small_file: Path) -> None:
    tensors = load_file(small_file)
    first = min(key for key, value in tensors.items() if value.ndim == 4)
    missing = {k: v for k, v in tensors.items() if k != first}
    assert f"{first} missing" in message(rewrite(tensors=missing))
    assert "extra.weight unexpected" in message(rewrite(tensors=tensors | {"extra.weight": torch.zeros(1)}))
    flat = tensors[first].flatten().clone()
    said = message(rewrite(tensors=tensors | {first: flat}))
    assert f"{first} is {tuple(flat.shape)}, not {tuple(tensors[first].shape)}" in said
    said = message(rewrite(tensors={"a": torch.zeros(1)}))
    assert f"and {len(tensors) + 1 - 3} more" in said


def test_another_architecture_does_not_take_these_weights(rewrite: Rewrite) -> None:
    said = message(rewrite(lambda fields: fields["architecture"]["point"].update(hidden=32)))
    assert "do not fit the architecture" in said


def test_two_classes_need_one_logit_but_may_have_two(small_spec: SemanticSpec) -> None:
    assert [num_logits(n) for n in (2, 3, 150)] == [1, 3, 150]
    fields = json.loads(small_spec.model_dump_json()) | {"classes": [vars(c) for c in small_spec.classes[:2]]}
    for logits, fits in ((1, True), (2, True), (3, False)):
        fields["num_logits"] = logits
        if fits:
            assert SemanticSpec.model_validate(fields).num_logits == logits
        else:
            with pytest.raises(ValueError, match="2 class names, but the network has 3 logits"):
                SemanticSpec.model_validate(fields)


def test_nothing_is_allocated_before_the_shapes_are_compared(rewrite: Rewrite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointrend.zoo.modelfile.network_of", lambda spec: pytest.fail("the network was built"))
    large = {"fpn_channels": 2**14, "coarse_channels": 2**14, "point": {"hidden": 2**14, "depth": 32}}
    assert "do not fit the architecture" in message(rewrite(lambda fields: fields["architecture"].update(large)))
    said = message(rewrite(tensors={"\x1b[2J\n": torch.zeros(1)}))
    assert "\x1b" not in said


BAD = {
    "nan": (".point_head.classifier.bias", lambda t: t * torch.nan, "holds numbers that are not finite"),
    "inf": ("coarse_head.classifier.weight", lambda t: t + torch.inf, "holds numbers that are not finite"),
    "float64": ("coarse_head.classifier.weight", lambda t: t.double() + 1e300, "holds numbers that are not finite"),
    "half": ("point_head.classifier.weight", lambda t: t.half() * torch.nan, "holds numbers that are not finite"),
    "integers": ("point_head.classifier.weight", lambda t: t.int(), "is int32; expected floating point numbers"),
    "bool": ("point_head.classifier.weight", lambda t: t > 0, "is bool; expected floating point numbers"),
    "complex": ("point_head.classifier.weight", lambda t: t + 1j, "is complex64; expected floating point numbers"),
    "variance": ("running_var", lambda t: -t, "holds negative variances"),
    "counter": ("num_batches_tracked", lambda t: t.float(), "is float32; expected integers"),
    "flag": ("num_batches_tracked", lambda t: t > 0, "is bool; expected integers"),
}


@pytest.mark.parametrize("kind", BAD)
def test_weights_that_no_network_has_are_named(rewrite: Rewrite, small_file: Path, kind: str) -> None:
    end, change, said = BAD[kind]
    tensors = load_file(small_file)
    name = next(name for name in tensors if f".{name}".endswith(end))
    assert f"{name} {said}" in message(rewrite(tensors=tensors | {name: change(tensors[name])}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(rewrite: Rewrite, small_file: Path, dtype: torch.dtype) -> None:
    tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in load_file(small_file).items()}
    state = read_model(rewrite(tensors=tensors)).network.state_dict()
    assert {v.dtype for v in state.values()} == {torch.float32, torch.int64}


def test_files_that_could_not_be_read_are_not_written(small_model: Model, tmp_path: Path) -> None:
    path, model = tmp_path / "x.safetensors", copy.deepcopy(small_model)
    weight = model.network.get_parameter("point_head.classifier.weight")
    with torch.no_grad():
        weight[0, 0] = 1e6
    save_model(model, path)
    path.unlink()
    with pytest.raises(ModelFileError, match=r"x.safetensors: not written: point_head.classifier.weight is too large"):
        save_model(model, path, dtype=torch.float16)
    with torch.no_grad():
        weight[0, 0] = torch.nan
    for dtype in (None, torch.float16):
        with pytest.raises(ModelFileError, match=r"not written: damaged: point_head.classifier.weight holds numbers"):
            save_model(model, path, dtype=dtype)
    assert not path.exists()
