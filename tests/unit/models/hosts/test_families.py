"""Every family of hosts, with tiny networks: what is found, odd sizes, files, one step of training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import segmentation as torch_segmentation

import pointrend
from pointrend.core import Sampling, Subdivision
from pointrend.data import SemanticBatch
from pointrend.models import PointArchitecture
from pointrend.models.hosts.families import FAMILIES
from pointrend.objectives import SemanticLoss, SemanticObjective
from pointrend.objectives.semantic import SemanticLosses
from pointrend.predict import PredictOptions
from pointrend.spec import SemanticTest
from pointrend.zoo import Model
from pointrend.zoo.engines import with_engine

SMALL = {"encoder_name": "resnet18"}
VIT = {"model": "vit_tiny_patch16_224", "dynamic_img_size": True, "depth": 3}
TINY_VIT = {"depth": 3, "embed_dim": 32, "num_heads": 2}
DINOV2 = {"model": "vit_small_patch14_dinov2", "dynamic_img_size": True, "img_size": 56, **TINY_VIT}
DINOV3 = {"model": "vit_small_patch16_dinov3", **TINY_VIT}
SMP_DPT = {
    "encoder_name": "tu-vit_tiny_patch16_224",
    "dynamic_img_size": True,
    "embed_dim": 32,
    "num_heads": 2,
    "encoder_output_indices": (0, 1, 2, 3),
    "decoder_intermediate_channels": (16, 16, 32, 32),
    "decoder_fusion_channels": 16,
}
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
MASK2FORMER = {
    "backbone_config": SWIN,
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_feedforward_dim": 64,
    "dim_feedforward": 64,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 4,
    "num_queries": 10,
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
    ("smp.DPT", SMP_DPT, {"stride": 2, "geometry": "corners", "fine": 0}),
    ("transformers.Mask2Former", MASK2FORMER, {"stride": 4, "geometry": "centers", "fine": 0}),
    ("timm.linear", VIT, {"stride": 16, "geometry": "centers", "fine": 0}),
    ("timm.linear", DINOV2, {"stride": 14, "geometry": "centers", "fine": 0}),
    ("timm.linear", DINOV3, {"stride": 16, "geometry": "centers", "fine": 0}),
]
SLOW = ("torchvision.deeplabv3_resnet50", "torchvision.fcn_resnet50")  # large; others of torchvision are as they are
NAMES = [f"{name}-{arguments['model']}" if "model" in arguments else name for name, arguments, _ in HOSTS]


def made(name: str, arguments: Mapping[str, Any]) -> Model:
    pytest.importorskip(FAMILIES[name.split(".", maxsplit=1)[0]].module)
    torch.manual_seed(0)
    test = SemanticTest(shortest=64, longest=512, subdivision=Subdivision(512, 2))
    model = pointrend.attach(name, PointArchitecture(hidden=16), num_classes=3, arguments=arguments, test=test)
    multiple = model.spec.architecture.host.multiple
    model.spec = model.spec.model_copy(update={"test": test.model_copy(update={"pad_multiple": multiple})})
    return model.eval()


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [pytest.param(*host, marks=pytest.mark.slow) if host[0] in SLOW else host for host in HOSTS],
    ids=NAMES,
)
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
    side = -(-64 // layout.multiple) * layout.multiple
    batch = SemanticBatch(torch.randn(2, 3, side, side), torch.ones(2, side, side, dtype=torch.long))
    objective = SemanticObjective(network, SemanticLoss(sampling=Sampling(64)))
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(8):
        loss = objective(batch, 0).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[1:]) < losses[0]
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


AUXILIARY = [
    ("torchvision.fcn_resnet50", {"aux_loss": True}, "aux_classifier"),
    (
        "transformers.UperNet",
        {**UPERNET, "use_auxiliary_head": True, "auxiliary_in_channels": 24, "backbone_config": CONVNEXT},
        "auxiliary_head",
    ),
]


@pytest.mark.parametrize(("name", "arguments", "head"), AUXILIARY, ids=[name for name, *_ in AUXILIARY])
def test_auxiliary_heads_are_trained_by_their_weight(name: str, arguments: Mapping[str, Any], head: str) -> None:
    network = made(name, arguments).network
    assert network.layout.auxiliary == (head,)
    images, labels = torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))
    labels[:, :8] = 255
    assert network(images).auxiliary == ()  # in evaluation mode
    network.train()

    def losses(weight: float) -> SemanticLosses:
        torch.manual_seed(0)  # of dropout
        network.zero_grad()
        found: SemanticLosses = SemanticObjective(
            network, SemanticLoss(sampling=Sampling(64), auxiliary_weight=weight)
        )(SemanticBatch(images, labels), 0)
        found.total.backward()
        return found

    part = network.backbone.get_submodule(head)
    without = losses(0.0)
    assert float(without.total.detach()) == pytest.approx(float(without.coarse + without.points), abs=1e-6)
    assert all(parameter.grad is None for parameter in part.parameters())
    seen: list[torch.Tensor] = []
    handle = part.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    found = losses(0.4)
    handle.remove()
    upsampled = F.interpolate(seen[0], size=(64, 64), mode="bilinear", align_corners=False)
    expected = float(F.cross_entropy(upsampled, labels, ignore_index=255))
    assert float(found.auxiliary) == pytest.approx(expected, rel=1e-4)
    assert float(found.total.detach()) == pytest.approx(float(found.coarse + found.points) + 0.4 * expected, rel=1e-4)
    assert any(float(parameter.grad.abs().sum()) > 0 for parameter in part.parameters() if parameter.grad is not None)


def test_auxiliary_heads_of_frozen_hosts_are_left_alone() -> None:
    host = torch_segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=3, aux_loss=True)
    network = pointrend.attach(host, freeze_host=True).network.train()
    assert network.layout.auxiliary == ("aux_classifier",)
    assert network(torch.randn(1, 3, 64, 64)).auxiliary == ()


def test_patches_of_14_pixels_pad_to_multiples_of_them() -> None:
    model = made("timm.linear", DINOV2)
    layout = model.spec.architecture.host
    assert layout.multiple == 14
    # 64 x 88 pixels are padded to 70 x 98, on which the host has 5 x 7 patches.
    found = model.predictor(PredictOptions(size=64)).encode(np.zeros((64, 88, 3), np.uint8))
    assert (found.frame.padded, found.output.coarse.shape[2:]) == ((70, 98), (5, 7))


def test_semantic_output_of_mask2former_is_that_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    model = made("transformers.Mask2Former", MASK2FORMER)
    host, images = model.network.backbone, torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        logits = model.network(images).coarse
        output = host(images)
    expected = transformers.Mask2FormerImageProcessor().post_process_semantic_segmentation(output, [(16, 24)])[0]
    # It resizes masks to 384 x 384 pixels first, and from there to the size asked for.
    assert (logits.argmax(1)[0] == expected).float().mean() > 0.95
    scores = torch.einsum(
        "bqc,bqhw->bchw", output.class_queries_logits.softmax(-1)[..., :-1], output.masks_queries_logits.sigmoid()
    )
    assert torch.allclose(logits.exp(), scores, rtol=1e-4)
    assert torch.allclose(logits.softmax(1), scores / scores.sum(1, keepdim=True), atol=1e-5)
