"""Classes that do not exclude each other, from a training to results and scores."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import pointrend
from pointrend.cli import main
from pointrend.data import SemanticBatch
from pointrend.errors import PointRendError
from pointrend.explain import save_explanation
from pointrend.objectives import SemanticLoss, SemanticObjective
from pointrend.predict import PredictOptions
from pointrend.results import MultiLabelResult
from pointrend.spec import SemanticTest
from pointrend.zoo import Model

CLASSES = ["background", "disc", "polygon"]


class Own(nn.Module):
    """Logits of 3 classes at stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(16, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU())
        self.head = nn.Conv2d(24, 3, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.deep(self.stem(images)))
        return logits


def attached(classes: list[str] = CLASSES) -> Model:
    torch.manual_seed(0)
    test = SemanticTest(shortest=96, longest=96, pad_multiple=4)
    return pointrend.attach(Own(), classes=classes, multi_label=True, test=test)


@pytest.fixture(scope="module")
def trained(scenes: Path, tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = [*tiny_settings, "train.iterations=80", "train.eval_every=80", "optim.ema=0", "optim.lr=1e-2"]
    settings += ["optim.backbone_lr=1e-2", "loss.class_balance=0.5"]
    out = tmp_path_factory.mktemp("multi") / "run"
    return pointrend.train("people-lite0", scenes, out, settings=settings, model=attached()).model


def test_training_and_scores(trained: Path, scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = pointrend.load_model(trained, host=Own())
    assert model.spec.task == "multi-label"
    rows = pointrend.evaluate(model, scenes / "val", layout="folder").rows
    untrained = pointrend.evaluate(attached().eval(), scenes / "val", layout="folder").rows
    assert rows["pointrend"]["miou"] > max(40, untrained["pointrend"]["miou"] + 10)
    assert set(rows["pointrend"]) >= {"miou", "boundary_iou", "iou/disc", "boundary_iou/polygon"}

    # The number of the first image by hand.
    first = pointrend.evaluate(model, scenes / "val", layout="folder", limit=1).rows["pointrend"]
    result = model.predict(scenes / "val" / "images" / "000.png")
    truth = np.asarray(Image.open(scenes / "val" / "labels" / "000.png"))
    for index, name in enumerate(CLASSES):
        found, wanted = result.mask(index), truth == index
        assert first[f"iou/{name}"] == pytest.approx(100 * (found & wanted).sum() / (found | wanted).sum())
    with pytest.raises(PointRendError, match="benchmarks take one class a pixel"):
        pointrend.evaluate(model, scenes / "val", layout="folder", submit=trained.parent / "submission")


def test_results_have_masks_that_may_overlap(trained: Path, scenes: Path, tmp_path: Path) -> None:
    model = pointrend.load_model(trained, host=Own())
    result = model.predict(scenes / "val" / "images" / "000.png")
    assert isinstance(result, MultiLabelResult)
    for options in (PredictOptions(), PredictOptions(points=200)):
        photo = np.asarray(Image.open(scenes / "val" / "images" / "000.png").convert("RGB"))
        sparse, dense = (
            model.predictor(changed).predict(photo).labels
            for changed in (options, PredictOptions(points=options.points, reference=True))
        )
        assert (sparse != dense).mean() < 1e-3
    result.save(tmp_path)
    with np.load(tmp_path / "000.npz") as file:
        assert {name: int(file[name].sum()) for name in file} == {one.name: one.pixels for one in result}
    summary = json.loads((tmp_path / "000.json").read_text())
    assert [one["pixels"] for one in summary["classes"]] == sorted((one.pixels for one in result), reverse=True)
    with pytest.raises(PointRendError, match="pixels have several classes or none"):
        result.label_image()
    for options in ({"flip": True}, {"probabilities": True}):
        with pytest.raises(PointRendError, match=r"is for semantic models, .* any number of classes"):
            model.predict(photo, **options)
    with pytest.raises(PointRendError, match="explain draws label maps of one class a pixel"):
        save_explanation(model.predictor(), photo, tmp_path / "explained.png")
    windows = model.predict(photo, slide=pointrend.Slide((64, 64), (32, 32)))
    assert (windows.labels != result.labels).mean() < 0.2


def test_overlays_name_what_lies_together() -> None:
    classes = pointrend.attach(Own(), classes=["sky", "tree", "bird"], multi_label=True).spec.classes
    labels = np.array([[0b000, 0b001], [0b010, 0b101]], np.int32).repeat(40, 0).repeat(40, 1)
    result = MultiLabelResult(labels=labels, classes=classes, image=np.zeros((80, 80, 3), np.uint8))
    assert [(one.name, one.pixels) for one in result] == [("sky", 3200), ("tree", 1600), ("bird", 1600)]
    assert [result._combined(pattern).name for pattern in (0, 1, 2, 5)] == ["background", "sky", "tree", "sky + bird"]
    mean = [round((a + b) / 2) for a, b in zip(classes[0].color, classes[2].color, strict=True)]
    assert list(result._combined(5).color) == mean
    renamed = replace(result, classes=(replace(classes[0], name="file"), *classes[1:]))
    with np.load(io.BytesIO(renamed.files()[0])) as file:
        assert int(file["file"].sum()) == 3200
    drawn = np.asarray(result.overlay(alpha=1.0))
    assert drawn[60, 60].tolist() == mean  # of sky and bird
    assert drawn[20, 20].tolist() == [0, 0, 0]  # of none


def test_the_loss_is_that_of_each_class() -> None:
    network = attached().network.train()
    images, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 3, (2, 32, 32))
    found = SemanticObjective(network, SemanticLoss())(SemanticBatch(images, labels), 0)
    logits = network.upsampled(network(images), (32, 32))
    target = torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    assert float(found.coarse) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_a_file_of_exclusive_classes_is_not_taken_for_it() -> None:
    spec = attached().spec
    layout = spec.architecture.host.model_copy(update={"multi_label": False})
    fields = dict(spec) | {"architecture": spec.architecture.model_copy(update={"host": layout})}
    with pytest.raises(PointRendError, match="need a network of independent classes"):
        type(spec)(**fields)
    with pytest.raises(PointRendError, match="2 names of classes, but the host gives 3 logits"):
        attached(["a", "b"])


def test_the_commands_take_it(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = pointrend.attach("torchvision.lraspp_mobilenet_v3_large", classes=CLASSES, num_classes=3, multi_label=True)
    pointrend.save_model(host, tmp_path / "host.safetensors")
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(tmp_path / "host.safetensors"), str(scenes / "val"), "--limit", "2", "--json"])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert list(json.loads(said.out)["rows"]["pointrend"])[:2] == ["miou", "boundary_iou"]
    photo = scenes / "val" / "images" / "000.png"
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(photo), "--model", str(tmp_path / "host.safetensors"), "--out", str(tmp_path / "o")])
    assert ended.value.code == 0, capsys.readouterr().err
    assert (tmp_path / "o" / "000_overlay.png").is_file()
