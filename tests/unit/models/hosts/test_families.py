"""Every family of hosts, with tiny networks: what is found, odd sizes, files, one step of training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pointrend
from pointrend.core import Sampling, Subdivision
from pointrend.data import SemanticBatch
from pointrend.models import PointArchitecture
from pointrend.models.hosts.families import FAMILIES
from pointrend.objectives import SemanticLoss, SemanticObjective
from pointrend.predict import PredictOptions
from pointrend.spec import SemanticTest
from pointrend.zoo import Model
from pointrend.zoo.engines import with_engine

SMALL = {"encoder_name": "resnet18"}
VIT = {"model": "vit_tiny_patch16_224", "dynamic_img_size": True, "depth": 3}
STAGES = ("stage1", "stage2", "stage3", "stage4")
CONVNEXT = {"model_type": "convnext", "hidden_sizes": (8, 16, 24, 32), "depths": (1, 1, 1, 1), "out_features": STAGES}
SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 1, 2, 2),
    "window_size": 4,
    "out_features": STAGES,
}
UPERNET = {"hidden_size": 16, "use_auxiliary_head": False}
PLAIN_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 64,
}
HOSTS: list[tuple[str, Mapping[str, Any], dict[str, Any]]] = [
    ("torchvision.deeplabv3_mobilenet_v3_large", {}, {"stride": 16, "geometry": "centers", "fine": 2}),
    ("torchvision.lraspp_mobilenet_v3_large", {}, {"stride": 8, "geometry": "centers", "fine": 2}),
    ("torchvision.fcn_resnet50", {}, {"stride": 8, "geometry": "centers", "fine": 2}),
    ("torchvision.deeplabv3_resnet50", {}, {"stride": 8, "geometry": "centers", "fine": 2}),
    ("smp.Unet", SMALL, {"stride": 4, "geometry": "centers", "fine": 1}),
    ("smp.UnetPlusPlus", SMALL, {"stride": 4, "geometry": "centers", "fine": 1}),
    ("smp.FPN", SMALL, {"stride": 4, "geometry": "corners", "fine": 1}),
    ("smp.DeepLabV3", SMALL, {"stride": 8, "geometry": "corners", "fine": 2}),
    ("smp.DeepLabV3Plus", SMALL, {"stride": 4, "geometry": "corners", "fine": 1}),
    ("smp.PSPNet", SMALL, {"stride": 8, "geometry": "corners", "fine": 2}),
    ("smp.UPerNet", SMALL, {"stride": 4, "geometry": "corners", "fine": 1}),
    ("smp.Segformer", SMALL, {"stride": 4, "geometry": "corners", "fine": 1}),
    (
        "transformers.Segformer",
        {"hidden_sizes": (8, 16, 24, 32), "depths": (1, 1, 1, 1), "decoder_hidden_size": 16},
        {"stride": 4, "geometry": "centers", "fine": 0},
    ),
    ("transformers.MobileNetV2", {"depth_multiplier": 0.35}, {"stride": 32, "geometry": "centers", "fine": 2}),
    (
        "transformers.UperNet",
        {**UPERNET, "backbone_config": CONVNEXT},
        {"stride": 4, "geometry": "centers", "fine": 0},
    ),
    ("transformers.UperNet", {**UPERNET, "backbone_config": SWIN}, {"stride": 4, "geometry": "centers", "fine": 0}),
    ("timm.linear", VIT, {"stride": 16, "geometry": "centers", "fine": 0}),
]
NAMES = [name for name, *_ in HOSTS]


def made(name: str, arguments: Mapping[str, Any]) -> Model:
    pytest.importorskip(FAMILIES[name.split(".", maxsplit=1)[0]].module)
    torch.manual_seed(0)
    test = SemanticTest(shortest=64, longest=512, subdivision=Subdivision(512, 2))
    model = pointrend.attach(name, PointArchitecture(hidden=16), num_classes=3, arguments=arguments, test=test)
    multiple = model.spec.architecture.host.multiple
    model.spec = model.spec.model_copy(update={"test": test.model_copy(update={"pad_multiple": multiple})})
    return model.eval()


@pytest.mark.parametrize(("name", "arguments", "expected"), HOSTS, ids=NAMES)
def test_a_family_is_a_full_citizen(
    name: str, arguments: Mapping[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    model = made(name, arguments)
    layout = model.spec.architecture.host
    found = {"stride": layout.stride, "geometry": layout.geometry, "fine": len(layout.fine)}
    assert found == expected
    assert layout.stem == (not layout.fine)

    # Odd sizes; the sparse renderer and the reference agree.
    image = np.random.default_rng(0).integers(0, 255, (71, 97, 3), np.uint8)
    labels = model.predictor(PredictOptions(size=64)).predict(image).labels
    assert labels.shape == (71, 97)
    reference = model.predictor(PredictOptions(size=64, reference=True)).predict(image).labels
    assert (labels != reference).mean() < 0.002

    # A file builds it again.
    pointrend.save_model(model, tmp_path / "model.safetensors")
    again = pointrend.load_model(tmp_path / "model.safetensors")
    assert np.array_equal(again.predictor(PredictOptions(size=64)).predict(image).labels, labels)

    # Training lowers the loss.
    network = model.network.train()
    labels = torch.ones(2, 64, 64, dtype=torch.long)
    batch = SemanticBatch(torch.randn(2, 3, 64, 64), labels)
    objective = SemanticObjective(network, SemanticLoss(sampling=Sampling(64)))
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(4):
        loss = objective(batch, 0).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in network.point_head.parameters())


@pytest.mark.parametrize("name", ["torchvision.lraspp_mobilenet_v3_large", "smp.FPN"])
def test_a_frozen_host_stays_as_it_is(name: str) -> None:
    pytest.importorskip(FAMILIES[name.split(".", maxsplit=1)[0]].module)
    arguments = SMALL if name.startswith("smp") else {}
    model = pointrend.attach(name, num_classes=3, arguments=arguments, freeze_host=True)
    network = model.network.train()
    assert not any(module.training for module in network.backbone.modules())
    before = {key: value.clone() for key, value in network.backbone.state_dict().items()}
    batch = SemanticBatch(torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long))
    SemanticObjective(network, SemanticLoss(sampling=Sampling(64)))(batch, 0).total.backward()
    assert all(parameter.grad is None for parameter in network.backbone.parameters())
    assert all(parameter.grad is not None for parameter in network.point_head.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.backbone.state_dict().items())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("name", "arguments"), [("torchvision.lraspp_mobilenet_v3_large", {}), ("smp.FPN", SMALL)], ids=["lraspp", "fpn"]
)
def test_engines_run_hosts(name: str, arguments: Mapping[str, Any], engine: Any) -> None:
    pytest.importorskip(engine)
    model = made(name, arguments)
    image = np.random.default_rng(0).integers(0, 255, (71, 97, 3), np.uint8)
    expected = model.predict(image, size=64).labels
    assert (
        with_engine(model, engine, precision="float32").predict(image, size=64).labels != expected
    ).mean() < 0.01  # random weights are near ties


@pytest.mark.parametrize(
    ("name", "arguments", "geometry"),
    [
        ("transformers.Beit", {**PLAIN_VIT, "out_indices": (1, 2, 3, 4)}, "centers"),
        (
            "transformers.DPT",
            {
                **PLAIN_VIT,
                "backbone_out_indices": (0, 1, 2, 3),
                "neck_hidden_sizes": (8, 16, 16, 16),
                "fusion_hidden_size": 16,
            },
            "corners",
        ),
    ],
    ids=["beit", "dpt"],
)
def test_families_of_one_size(name: str, arguments: Mapping[str, Any], geometry: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = pointrend.attach(name, num_classes=3, arguments=arguments, size=(64, 64)).eval()
    layout = model.spec.architecture.host
    assert (layout.geometry, layout.size, layout.stem) == (geometry, (64, 64), True)
    image = np.random.default_rng(0).integers(0, 255, (71, 97, 3), np.uint8)
    labels = model.predict(image, size=64).labels
    assert labels.shape == (71, 97)
    pointrend.save_model(model, tmp_path / "model.safetensors")
    assert np.array_equal(pointrend.load_model(tmp_path / "model.safetensors").predict(image, size=64).labels, labels)
