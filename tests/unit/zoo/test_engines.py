"""The compiled dense part is the network's, for any size; what cannot be compiled is said."""

from __future__ import annotations

import builtins
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from pointrend.cli import main
from pointrend.core import Subdivision
from pointrend.data.classes import ClassInfo
from pointrend.models import Detection, InstanceArchitecture, MaskArchitecture, PointArchitecture
from pointrend.predict import PredictOptions, Slide, TestAugmentation
from pointrend.spec import InstanceSpec, InstanceTest
from pointrend.zoo import Model, load_model, save_model
from pointrend.zoo.engines import Engine, EngineError, calibrate_int8, installed_engines, openvino_engine, with_engine
from pointrend.zoo.modelfile import network_of

SIZES = ((64, 96), (97, 131), (70, 64), (33, 200))
ENGINES: tuple[Engine, ...] = ("openvino", "onnxruntime")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.getbasetemp() / "engines-home"  # converted once for all tests
    monkeypatch.setenv("POINTREND_HOME", str(folder))
    return folder


@pytest.fixture(scope="module")
def instances() -> Model:
    torch.manual_seed(0)
    spec = InstanceSpec(
        name="small",
        num_logits=2,
        architecture=InstanceArchitecture(
            backbone="test_resnet",
            fpn_channels=8,
            box_hidden=8,
            mask=MaskArchitecture(channels=8, hidden=8, point=PointArchitecture(hidden=8)),
        ),
        classes=(ClassInfo("a", (1, 1, 1)), ClassInfo("b", (2, 2, 2))),
        test=InstanceTest(
            shortest=64,
            longest=128,
            detection=Detection(score_threshold=0.0, max_detections=4),
            subdivision=Subdivision(num_points=784, steps=1, start=28),
        ),
    )
    return Model(network_of(spec), spec).eval()


@pytest.mark.parametrize("engine", ENGINES)
def test_maps_and_labels_are_the_same_at_any_size(small_model: Model, engine: Engine) -> None:
    compiled = with_engine(small_model, engine)
    for size in SIZES:
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected, found = small_model.network(images), compiled.network(images)
        for one, other in zip((expected.coarse, *expected.fine), (found.coarse, *found.fine), strict=True):
            assert one.shape == other.shape
            assert float((one - other).abs().max()) < 1e-4 * float(one.std())
    pixels = np.random.default_rng(0).integers(0, 256, (90, 110, 3), np.uint8)
    labels = [model.predict(pixels).labels for model in (small_model, compiled)]
    assert (labels[0] != labels[1]).mean() < 0.002  # ties


@pytest.mark.parametrize("engine", ENGINES)
def test_several_passes_and_windows(small_model: Model, instances: Model, engine: Engine) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 110, 3), np.uint8)
    compiled = with_engine(small_model, engine)
    for slide in (None, Slide((48, 64), (32, 64))):
        expected, found = (
            model.predict(pixels, scales=(0.5, 1.25), flip=True, slide=slide) for model in (small_model, compiled)
        )
        assert (expected.labels != found.labels).mean() < 0.002  # ties
    options = PredictOptions(augmentation=TestAugmentation((0.5, 1.25), flip=True))
    objects = [
        model.scoring_predictor(options).predict(pixels) for model in (instances, with_engine(instances, engine))
    ]
    assert np.allclose(objects[0].boxes, objects[1].boxes, atol=1e-2)


@pytest.mark.parametrize("engine", ENGINES)
def test_earlier_results_stay_what_they_were(small_model: Model, engine: Engine) -> None:
    compiled = with_engine(small_model, engine)
    with torch.inference_mode():
        first = compiled.network(torch.zeros(1, 3, 64, 64)).coarse
        kept = first.clone()
        compiled.network(torch.randn(1, 3, 64, 64))
    assert torch.equal(first, kept)


@pytest.mark.parametrize("engine", ENGINES)
def test_instances(instances: Model, engine: Engine) -> None:
    compiled = with_engine(instances, engine)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 110, 3), np.uint8)
    expected, found = (model.scoring_predictor().predict(pixels) for model in (instances, compiled))
    assert np.allclose(expected.boxes, found.boxes, atol=1e-2)
    assert np.array_equal(expected.labels, found.labels)
    assert (expected.ids != found.ids).mean() < 0.01


CONVERTERS = {"openvino": "openvino.convert_model", "onnxruntime": "torch.onnx.export"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_conversion_is_kept(small_model: Model, engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_engine(small_model, engine)

    def converted_again(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(CONVERTERS[engine], converted_again)
    with_engine(small_model, engine)
    files = {"openvino": ["model.bin", "model.xml"], "onnxruntime": ["model.onnx"]}[engine]
    for folder in (home / "engines").glob(f"{engine}-*"):
        assert sorted(p.name for p in folder.iterdir()) == files
    other = Model(network_of(small_model.spec), small_model.spec).eval()
    with pytest.raises(AssertionError, match="converted again"):  # other weights are another model
        with_engine(other, engine)
    assert not list((home / "engines").glob(".*"))  # nor is anything left of what failed


class Photos:
    """Inputs of people-lite0 from parts of a photograph, made anew each time."""

    def __init__(self, count: int) -> None:
        pixels = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1).float() / 127.5 - 1
        self.parts = [pixels[None, :, : 320 + 32 * i, :320] for i in range(count)]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.parts)


@pytest.mark.slow
def test_int8_is_calibrated_first(home: Path) -> None:
    model = load_model("people-lite0")
    with pytest.raises(EngineError, match=r"not calibrated for int8 here: run pointrend calibrate PHOTO\.\.\. --model"):
        with_engine(model, "openvino", precision="int8")
    calibrate_int8(model, Photos(1))
    calibrate_int8(model, Photos(3))  # again, in its place
    compiled = with_engine(model, "openvino", precision="int8")
    (images,) = Photos(1)
    with torch.inference_mode():
        expected, found = model.network(images).coarse, compiled.network(images).coarse
    error = float((expected - found).std() / expected.std())
    assert 1e-3 < error < 0.3  # it is quantised, and not broken
    assert (expected.argmax(1) != found.argmax(1)).float().mean() < 0.05
    assert not list((home / "engines").glob(".*"))


def test_the_command_calibrates_and_compares(
    small_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.safetensors"
    save_model(small_model, path)
    for name in "abc":
        Image.fromarray(np.random.default_rng(ord(name)).integers(0, 256, (40, 50, 3), np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    calibrate = ["calibrate", "--model", str(path)]
    for photos, more, code in (("*.png", ["--json"], 0), ("a.png", [], 0), ("*.gif", [], 2)):
        with pytest.raises(SystemExit) as ended:
            main([*calibrate, str(tmp_path / photos), *more])
        assert ended.value.code == code
        printed = capsys.readouterr()
        if more:
            content = json.loads(printed.out)
            assert (content["calibrated_on"], content["compared_on"]) == (2, 1)
            assert [row["precision"] for row in content["rows"]] == ["float32", "bfloat16", "int8"]
            assert content["rows"][0]["differ"] == 0
        elif code == 0:
            assert "times as fast" in printed.out
        else:
            assert len(printed.err.strip().splitlines()) == 1
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(tmp_path / "a.png"), "--model", str(path), "--out", str(tmp_path / "out"), "--engine",
              "openvino", "--precision", "int8"])  # fmt: skip
    assert ended.value.code == 0


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals as on Linux and macOS")
def test_signals_are_still_handled_when_models_have_gone() -> None:
    """OpenVINO's cores set the signal stack: two that went in the wrong order ended the program at the next signal."""
    code = """
import faulthandler, os, signal
faulthandler.enable()
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
from pointrend.zoo import load_model
from pointrend.zoo.engines import with_engine
model = load_model("people-lite0")
first, second = with_engine(model, "openvino"), with_engine(model, "openvino", precision="bfloat16")
del first
del second
os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_torch_is_the_model_itself(small_model: Model) -> None:
    assert with_engine(small_model, "torch") is small_model


def test_auto_takes_what_is_there(small_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"openvino", "onnxruntime"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in there else None)
    assert installed_engines() == ["openvino", "onnxruntime", "torch"]
    there.remove("openvino")
    assert with_engine(small_model, "auto") is not small_model
    with pytest.raises(EngineError, match="needs engine=openvino, got onnxruntime"):
        with_engine(small_model, "auto", precision="bfloat16")
    there.clear()
    assert with_engine(small_model, "auto") is small_model


def test_what_cannot_be_done_is_said(small_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="engine must be one of torch, openvino, onnxruntime, auto, got 'tensorrt'"):
        with_engine(small_model, "tensorrt")  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="precision must be one of float32, bfloat16, int8, got 'int4'"):
        with_engine(small_model, "openvino", precision="int4")  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="bfloat16 needs engine=openvino"):
        with_engine(small_model, "torch", precision="bfloat16")
    meta = Model(network_of(small_model.spec), small_model.spec).to("meta")
    with pytest.raises(EngineError, match="computes on the CPU"):
        with_engine(meta, "openvino")
    importing = builtins.__import__

    def without(name: str, *arguments: Any, **settings: Any) -> Any:
        if name in ("openvino", "onnx", "nncf"):
            raise ImportError(name)
        return importing(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(openvino_engine, "_core", openvino_engine._core.__wrapped__)
    for engine in ENGINES:
        with pytest.raises(EngineError, match=rf"pip install 'pointrend\[{engine}\]'"):
            with_engine(small_model, engine)
    with pytest.raises(EngineError, match=r"pip install 'pointrend\[int8\]'"):
        calibrate_int8(small_model, [])


def test_by_name_and_in_the_command(small_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.safetensors"
    save_model(small_model, path)
    parts = {name for name, _ in load_model(path, engine="openvino").network.named_children()}
    assert parts == {"point_head"}  # what the engine computes has no modules any more
    Image.fromarray(np.full((40, 50, 3), 99, np.uint8)).save(tmp_path / "a.png")
    for more, code in ((["--engine", "openvino"], 0), (["--engine", "tensorrt"], 2), (["--precision", "bfloat16"], 2)):
        with pytest.raises(SystemExit) as ended:
            main(["predict", str(tmp_path / "a.png"), "--model", str(path), "--out", str(tmp_path / "out"), *more])
        assert ended.value.code == code
        said = capsys.readouterr().err
        assert len(said.strip().splitlines()) == (code != 0)
