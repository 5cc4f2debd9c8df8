"""Published names and published files as models: one call each. The networks are small; only their names are real."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pointrend.models import PointArchitecture, SemanticPointRend
from pointrend.zoo import Model, ModelFileError, list_models, load_model, save_model
from pointrend.zoo.cache import ChecksumError, cache_folder
from pointrend.zoo.download import DownloadError
from pointrend.zoo.load import UnknownModelError
from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.modelfile import network_of

NAME = "mmseg-r50-cityscapes"
TINY = {
    "backbone": "test_resnet",
    "fpn_channels": 16,
    "coarse_channels": 16,
    "point": PointArchitecture(hidden=16),
}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the server has."""
    path = tmp_path / "server"
    path.mkdir()
    return path


@pytest.fixture
def url(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("POINTREND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def tiny(published: Published) -> Published:
    architecture = published.spec.architecture.model_copy(update=TINY)
    return published.model_copy(update={"spec": published.spec.model_copy(update={"architecture": architecture})})


@pytest.fixture
def weights(as_mmsegmentation: Callable[[SemanticPointRend], dict[str, Tensor]]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return as_mmsegmentation(network_of(tiny(PUBLISHED[NAME]).spec))


@pytest.fixture
def served(url: str, folder: Path, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> Published:
    """A small model under a published name, on a server."""
    file = folder / "tiny-0.pth"
    torch.save({"meta": {"CLASSES": ["road"]}, "state_dict": weights}, file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    published = tiny(PUBLISHED[NAME]).model_copy(update={"url": f"{url}/{file.name}", "sha256": sha256})
    monkeypatch.setitem(PUBLISHED, NAME, published)
    return published


def check(loaded: SemanticPointRend, weights: dict[str, Tensor]) -> None:
    state = loaded.state_dict()
    assert torch.equal(state["backbone.model.conv1.0.weight"], weights["backbone.stem.0.weight"])
    assert torch.equal(state["point_head.classifier.weight"], weights["decode_head.1.fc_seg.weight"][:, :, 0])
    assert not loaded.training


def test_a_name_is_downloaded_once(served: Published, folder: Path, weights: dict[str, Tensor]) -> None:
    told: list[str] = []
    model = load_model(NAME, progress=lambda name, done, total: told.append(name))
    check(model.network, weights)
    assert model.spec == served.spec
    assert set(told) == {NAME}
    (folder / "tiny-0.pth").unlink()
    check(load_model(NAME).network, weights)


def test_what_is_listed(served: Published, folder: Path) -> None:
    assert [entry.name for entry in list_models()][-len(PUBLISHED) :] == list(PUBLISHED)

    def entry() -> tuple[str, int]:
        found = next(entry for entry in list_models() if entry.name == NAME)
        assert (found.task, found.data, found.licence) == ("semantic", "Cityscapes", "Apache-2.0")
        assert found.scores == {"miou": 76.47, "miou_ms_flip": 78.13}
        return found.source, found.size_bytes

    assert entry() == ("download", served.weight_bytes)
    load_model(NAME)
    assert entry() == ("cached", (folder / "tiny-0.pth").stat().st_size)


def test_nothing_is_parsed_before_the_hash_is_right(
    served: Published, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(path: Path) -> dict[str, Tensor]:
        raise AssertionError("was parsed")

    monkeypatch.setattr("pointrend.zoo.convert.read_tensors", parse)
    with (folder / "tiny-0.pth").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ChecksumError, match=served.sha256):
        load_model(NAME)
    with pytest.raises(ChecksumError, match=r"tiny-0\.pth"):
        load_model(NAME)
    assert [path.name for path in cache_folder().iterdir() if path.suffix != ".lock"] == ["tiny-0.pth.bad"]


def test_missing_on_the_server(served: Published, folder: Path) -> None:
    (folder / "tiny-0.pth").unlink()
    with pytest.raises(DownloadError, match="HTTP 404"):
        load_model(NAME)


def test_another_model_under_the_name(
    served: Published, as_mmsegmentation: Callable[[SemanticPointRend], dict[str, Tensor]]
) -> None:
    spec = served.spec.model_copy(update={"num_logits": 5})
    file = cache_folder() / served.file
    file.parent.mkdir()
    torch.save(as_mmsegmentation(network_of(spec)), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    PUBLISHED[NAME] = served.model_copy(update={"sha256": sha256})  # `served` puts back what was there
    with pytest.raises(ModelFileError, match=r"tiny-0\.pth: the weights have 5 classes, .* has 19"):
        load_model(NAME)


@pytest.mark.parametrize("file", ["mine.pth", "mine.pt", "mine.weights", "mine.safetensors"])
def test_a_file_is_recognised_by_its_tensors(
    file: str, served: Published, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / file
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in weights.items()}, path)
    else:
        torch.save({"state_dict": weights}, path)
    for given in (path, str(path)):
        model = load_model(given)
        assert model.spec == served.spec
        check(model.network, weights)
    assert not cache_folder().exists()


def test_files_of_ours_stay_files_of_ours(served: Published, tmp_path: Path) -> None:
    spec = served.spec.model_copy(update={"name": "mine"})
    save_model(Model(network_of(spec), spec), tmp_path / "mine.safetensors")
    assert load_model(tmp_path / "mine.safetensors").spec.name == "mine"


def test_a_file_that_fits_two_names(
    served: Published, weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny(PUBLISHED["mmseg-r101-cityscapes"])
    monkeypatch.setitem(PUBLISHED, other.name, other)
    torch.save(weights, tmp_path / "mine.pth")
    # Only names and scores tell them apart: both compute the same, and the first stands for both.
    first = next(name for name in PUBLISHED if name in (NAME, other.name))
    assert load_model(tmp_path / "mine.pth").spec.name == first
    subdivision = replace(other.spec.test.subdivision, num_points=100)
    test = other.spec.test.model_copy(update={"subdivision": subdivision})
    spec = other.spec.model_copy(update={"test": test})
    monkeypatch.setitem(PUBLISHED, other.name, other.model_copy(update={"spec": spec}))
    with pytest.raises(ModelFileError, match=r"mine\.pth: it may be mmseg-r\S+ or mmseg-r\S+: convert") as error:
        load_model(tmp_path / "mine.pth")
    assert "\n" not in str(error.value)


def test_a_file_that_fits_none(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "mine.pth")  # nothing that was published is so small
    with pytest.raises(ModelFileError, match=r"mine\.pth: its tensors fit no published model.*convert") as error:
        load_model(tmp_path / "mine.pth")
    assert "\n" not in str(error.value)


def test_a_file_with_numbers_that_are_none(served: Published, weights: dict[str, Tensor], tmp_path: Path) -> None:
    weights["neck.fpn_convs.0.conv.bias"][0] = torch.nan
    torch.save(weights, tmp_path / "mine.pth")
    with pytest.raises(ModelFileError, match=r"mine\.pth: .*not finite"):
        load_model(tmp_path / "mine.pth")


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x02}q\x00."])
@pytest.mark.parametrize("file", ["x.pth", "x.pkl", "x.safetensors", "x"])
def test_files_that_are_no_models(content: bytes, file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelFileError, match=str(tmp_path / file)) as error:
        load_model(str(tmp_path / file))
    assert "\n" not in str(error.value)


def test_missing_files(tmp_path: Path) -> None:
    for file in ("x.pth", "x.pkl", "x.safetensors"):
        with pytest.raises(ModelFileError, match="no such") as error:
            load_model(str(tmp_path / file))
        assert not isinstance(error.value, UnknownModelError)


def test_misspelt_names() -> None:
    with pytest.raises(UnknownModelError, match=r"'mmseg-r50-cityscape'.*mmseg-r50-cityscapes"):
        load_model("mmseg-r50-cityscape")


def test_a_hash_is_pinned_once_the_file_was_read(
    served: Published, folder: Path, weights: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "tiny-0.pth"
    good = file.read_bytes()
    PUBLISHED[NAME] = served.model_copy(update={"sha256": None, "weight_bytes": len(good) // 2})
    kept = lambda: sorted(path.name for path in cache_folder().iterdir() if path.suffix != ".lock")  # noqa: E731
    for bad in (bytes(len(good)), good[:-100]):
        file.write_bytes(bad)
        with pytest.raises(ModelFileError, match=r"tiny-0\.pth: .*it is now tiny-0\.pth\.bad") as error:
            load_model(NAME)
        assert "\n" not in str(error.value)
        assert kept() == ["tiny-0.pth.bad"]
    torch.save({name: value for name, value in weights.items() if "neck" not in name}, file)
    with pytest.raises(ModelFileError, match=r"differences.*(\n.*)*it is now tiny-0\.pth\.bad"):
        load_model(NAME)
    assert kept() == ["tiny-0.pth.bad"]
    file.write_bytes(good)
    check(load_model(NAME).network, weights)
    assert kept() == ["tiny-0.pth", "tiny-0.pth.bad", "tiny-0.pth.sha256"]
    assert capsys.readouterr().err.count("is now pinned") == 1
    check(load_model(NAME).network, weights)
