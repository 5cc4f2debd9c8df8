from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import pointrend.zoo.load
from pointrend.zoo import Model, ModelFileError, list_models, load_model
from pointrend.zoo.load import UnknownModelError, available_device


@pytest.fixture
def bundled(small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that holds one model, `people-tiny`."""
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(small_file, folder / "people-tiny.safetensors")
    (folder / "people-tiny.md").write_text("a card")
    monkeypatch.setattr(pointrend.zoo.load, "_weights", lambda: folder)
    return folder


def same(a: Model, b: Model) -> bool:
    ours, theirs = a.network.state_dict(), b.network.state_dict()
    return a.spec == b.spec and ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_names_and_paths_load(bundled: Path, small_file: Path, small_model: Model) -> None:
    for place in ("people-tiny", str(small_file), small_file):
        model = load_model(place)
        assert same(model, small_model)
        assert not model.network.training
    renamed = bundled / "a file without suffix"
    shutil.copy(small_file, renamed)
    assert same(load_model(str(renamed)), small_model)


def test_a_path_object_is_never_a_name(bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match="no such model file"):
        load_model(Path("people-tiny"))


def test_an_unknown_name_is_answered_with_the_nearest(bundled: Path) -> None:
    with pytest.raises(
        UnknownModelError, match=r"no model is called 'people-tny'.*people-tiny.*or give the path"
    ) as error:
        load_model("people-tny")
    assert "\n" not in str(error.value)
    with pytest.raises(UnknownModelError, match="people-tiny"):
        load_model("xyz")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    with pytest.raises(ModelFileError, match="no such model file") as error:
        load_model(str(path))
    assert str(path) in str(error.value)


def test_bundled_models_are_listed_without_their_weights(
    bundled: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pointrend.zoo.modelfile.network_of", lambda spec: pytest.fail("the network was built"))
    entry = list_models()[0]
    assert (entry.name, entry.task, entry.source) == ("people-tiny", "semantic", "bundled")
    assert (entry.data, entry.licence, entry.scores) == ("coloured paper", "CC0-1.0", {"miou": 61.25})
    assert entry.size_bytes == small_file.stat().st_size
    assert [e.name for e in list_models() if e.source == "bundled"] == ["people-tiny"]


def test_a_package_without_weights_lists_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pointrend.zoo.load, "_weights", lambda: tmp_path / "missing")
    assert not [e for e in list_models() if e.source == "bundled"]


def test_devices() -> None:
    assert available_device("cpu") == torch.device("cpu")
    assert available_device(torch.device("cpu", 0)).type == "cpu"
    for wrong in ("", "gpu", "cuda:x", "CPU:", "meta", "cuda:99", "xla"):
        with pytest.raises(ValueError, match=r"device.*expected cpu") as error:
            available_device(wrong)
        assert "\n" not in str(error.value)


def test_the_device_is_looked_at_before_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'toaster' is not a device"):
        load_model(tmp_path / "none.safetensors", device="toaster")
