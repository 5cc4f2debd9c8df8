"""The table "to add ..., touch these files" of docs/design.md: each kind of part is added here, in this file alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import pointrend
from pointrend import metrics
from pointrend.cli import main
from pointrend.core import LABEL_SUBDIVISION, Subdivision
from pointrend.data import LAYOUTS, SampleSet, SemanticBatch, find_samples
from pointrend.data.annotations import LabelImage, LabelValues
from pointrend.data.classes import IGNORE, ClassInfo
from pointrend.data.finding import Layout
from pointrend.data.samples import Sample
from pointrend.evaluation import evaluate
from pointrend.evaluation.submissions import FORMS, Form
from pointrend.inputs import Frame
from pointrend.metrics.base import MetricSettings, SplitMetric
from pointrend.models import PointHead, SemanticArchitecture, SemanticPointRend
from pointrend.predict import Predictor
from pointrend.predict.base import Encoded
from pointrend.results import SemanticResult
from pointrend.spec import ModelSpec, SemanticSpec, TestSpec
from pointrend.strict import Strict
from pointrend.tasks import TASKS
from pointrend.zoo import Model, load_model, save_model
from pointrend.zoo.engines import installed_engines, with_engine

CLASSES = (ClassInfo("dark", (0, 0, 0)), ClassInfo("bright", (250, 250, 250)))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Photographs whose right half is bright, as a layout of its own has them: `NAME.photo.png`, `NAME.truth.png`."""
    for name in "ab":
        truth = np.zeros((40, 64), np.uint8)
        truth[:, 32:] = 1
        Image.fromarray(truth).save(tmp_path / f"{name}.truth.png")
        Image.fromarray(np.repeat(truth[..., None] * np.uint8(200), 3, axis=2)).save(tmp_path / f"{name}.photo.png")
    return tmp_path


# A layout.


def find_side_by_side(root: Path, split: str | None) -> SampleSet:
    lookup = np.full(256, IGNORE, np.uint8)
    lookup[:2] = (0, 1)
    values = LabelValues(lookup=lookup, valid=lookup != IGNORE)
    photos = sorted(root.glob("*.photo.png"))
    return SampleSet(
        layout="side-by-side",
        task="semantic",
        samples=tuple(
            Sample(photo, LabelImage(photo.with_name(photo.name.replace("photo", "truth")), values), photo.stem)
            for photo in photos
        ),
        classes=CLASSES,
        metrics=("semantic", "wrong-pixels"),
    )


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> None:
    def matches(root: Path, split: str | None) -> bool:
        return any(root.glob("*.photo.png"))

    added = Layout(task="semantic", find=find_side_by_side, matches=matches, hint="NAME.photo.png (side-by-side)")
    monkeypatch.setitem(LAYOUTS, "side-by-side", added)


# A metric.


class WrongPixels(SplitMetric):
    """The percentage of pixels with a wrong label."""

    name = "wrong-pixels"
    headline: ClassVar = {"wrong": "wrong pixels"}
    wrong: Tensor
    counted: Tensor

    def __init__(self, settings: MetricSettings) -> None:
        super().__init__(settings)
        self.add_state("wrong", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("counted", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        self.wrong += (prediction != truth).sum()
        self.counted += truth.numel()

    def compute(self) -> dict[str, float]:
        return {"wrong": float(100 * self.wrong / self.counted)}


@pytest.fixture
def metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.METRICS, "wrong-pixels", WrongPixels)


# A task: what is bright? Its network has one number.


class ThresholdNumbers(Strict):
    gain: float = 1.0


class ThresholdTest(TestSpec):
    subdivision: Subdivision = LABEL_SUBDIVISION


class ThresholdSpec(ModelSpec):
    task: Literal["threshold"] = "threshold"
    architecture: ThresholdNumbers
    test: ThresholdTest = ThresholdTest(shortest=40)


class Brightness(nn.Module):
    def __init__(self, num_logits: int, numbers: ThresholdNumbers) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(numbers.gain))

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.gain * images.mean(dim=1, keepdim=True),)

    def forward(self, images: Tensor) -> Tensor:
        return self.maps(images)[0]


class ThresholdPredictor(Predictor[Any, Any, Any, Any]):
    result_type = SemanticResult
    does = "finds what is bright"
    foreign: ClassVar = {"score_threshold": "instance"}
    max_steps = 8
    min_aspect = 0.0

    def _settings(self, options: Any) -> Any:
        return self._overridden(self.spec.test, options)

    def _network_output(self, images: Tensor, frame: Frame) -> Tensor:
        return self.network(images)  # type: ignore[no-any-return]

    def _labels(self, encoded: Encoded[Tensor]) -> np.ndarray:
        resized = nn.functional.interpolate(encoded.output, size=encoded.frame.size, mode="nearest")
        return (resized[0, 0] > 0).numpy().astype(np.uint8)

    def predict(self, pixels: np.ndarray, path: Path | None = None) -> SemanticResult:
        labels = self._labels(self.encode(pixels))
        return SemanticResult(labels=labels, classes=self.spec.classes, image=pixels, path=path)

    def compare(self, pixels: np.ndarray) -> dict[str, SemanticResult]:
        return {"only": self.predict(pixels)}


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> str:
    row = replace(
        TASKS["semantic"],
        spec=ThresholdSpec,
        num_logits=lambda count: 1,
        network=Brightness,
        predictor=ThresholdPredictor,
        main_score="wrong",
        explains=False,
    )
    monkeypatch.setitem(TASKS, "threshold", row)
    return "threshold"


@pytest.fixture
def model(task: str) -> Model:
    spec = ThresholdSpec(name="bright", num_logits=1, architecture=ThresholdNumbers(), classes=CLASSES)
    return Model(Brightness(1, spec.architecture), spec).eval()


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 0


@pytest.mark.usefixtures("layout", "metric")
def test_a_layout_and_a_metric_serve_library_and_command(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = find_samples(pictures)
    assert (samples.layout, samples.class_names) == ("side-by-side", ("dark", "bright"))
    network = load_model("people-lite0")
    spec = network.spec.model_copy(update={"classes": CLASSES, "num_logits": 1, "name": "halves"})
    architecture = spec.architecture.model_copy(update={"backbone": "test_efficientnet"})
    spec = spec.model_copy(update={"architecture": architecture})
    small = Model(pointrend.semantic_pointrend(1, architecture), spec).eval()
    found = evaluate(small, samples)
    assert set(found.rows["coarse"]) >= {"miou", "wrong"}
    assert found.headline["wrong"] == "wrong pixels"
    save_model(small, pictures / "halves.safetensors")
    run("eval", pictures / "halves.safetensors", pictures)
    assert "wrong pixels" in capsys.readouterr().out


class ListOfClasses(Form):
    """A text file for each image: the indices of the classes in it."""

    result = SemanticResult

    def add(self, sample: Sample, result: SemanticResult) -> None:
        self._write(f"{sample.image_id}.txt", " ".join(map(str, np.unique(result.labels))).encode())


@pytest.mark.usefixtures("layout", "metric")
def test_a_form_of_submission_is_a_row(model: Model, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMS, "list", ListOfClasses)
    samples = replace(find_samples(pictures), task="threshold", submission="list")
    evaluate(model, samples, submit=pictures / "out")
    written = {path.name: path.read_text() for path in (pictures / "out").glob("*.txt")}
    assert written == {"a.photo.txt": "0 1", "b.photo.txt": "0 1"}


@pytest.mark.usefixtures("layout", "metric")
def test_a_task_is_loaded_predicted_evaluated_and_listed(
    model: Model, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pictures / "bright.safetensors"
    save_model(model, path)
    loaded = load_model(path)
    assert repr(loaded).startswith("Model(bright: threshold, 2 classes")
    result = loaded.predict(pictures / "a.photo.png")
    assert np.array_equal(result.labels[0], np.arange(64) >= 32)

    def as_threshold(root: Path, split: str | None) -> SampleSet:
        return replace(find_side_by_side(root, split), task="threshold")

    monkeypatch.setitem(LAYOUTS, "side-by-side", replace(LAYOUTS["side-by-side"], task="threshold", find=as_threshold))
    run("eval", path, pictures, "--json")
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows["only"]["wrong"] == 0.0
    assert rows["only"]["miou"] == 100.0
    run("predict", pictures / "a.photo.png", "--model", path, "--out", pictures / "out", "--json")
    assert [p.name for p in sorted((pictures / "out").iterdir())] == [
        "a.photo.json", "a.photo.png", "a.photo_overlay.png",
    ]  # fmt: skip


class GreyHost(SemanticPointRend):
    """A host network: coarse logits and fine features from convolutions of its own."""

    encoder_parts = ("stem",)

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.stem = nn.Conv2d(3, 4, 4, stride=4)
        self.point_head = PointHead(in_channels=3, num_classes=1)
        self.padding = "border"

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.stem(images)[:, :1], images


@pytest.mark.usefixtures("layout")
def test_a_host_network_is_one_class(pictures: Path) -> None:
    spec = SemanticSpec(name="host", num_logits=1, architecture=SemanticArchitecture(), classes=CLASSES)
    model = Model(GreyHost(), spec).eval()
    samples = replace(find_samples(pictures), metrics=("semantic",))
    assert set(evaluate(model, samples).rows) == {"coarse", "pointrend"}
    objective = TASKS["semantic"].objective(model.network, TASKS["semantic"].recipe(name="", task="semantic"), samples)
    images, labels = torch.rand(1, 3, 32, 32), torch.randint(0, 2, (1, 32, 32))
    objective(SemanticBatch(images, labels), 0).total.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_an_engine_is_a_function_in_one_dict(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from pointrend.zoo import engines

    asked: list[str] = []

    def negated(model: Model, precision: str) -> Callable[[Tensor], tuple[Tensor, ...]]:
        def maps(images: Tensor) -> tuple[Tensor, ...]:
            asked.append(precision)
            return tuple(-m for m in model.network.maps(images))  # type: ignore[operator, union-attr]

        return maps

    monkeypatch.setattr(engines, "_ENGINES", {"json": negated})  # the name of a module that is installed
    monkeypatch.setattr(engines, "Engine", Literal["torch", "json", "auto"])
    assert installed_engines() == ["json", "torch"]
    bright = np.full((40, 64, 3), 200, np.uint8)
    assert model.predict(bright).labels.all()
    assert not with_engine(model, "auto").predict(bright).labels.any()
    assert asked == ["float32"]


def test_the_page_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "design.md").read_text(encoding="utf-8")
    section = page.partition("## To add a part")[2].partition("\n## ")[0]
    for kind in ("task", "host", "engine", "layout", "form of submission", "metric"):
        assert f"| {kind} |" in section
