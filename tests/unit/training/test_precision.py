"""Depthwise convolutions in single precision."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pointrend.models import Backbone
from pointrend.training.precision import depthwise_in_float32, slow_bfloat16


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Conv2d(8, 16, 3, padding=1, groups=8),
        nn.Conv2d(16, 4, 1),
    )


def seen(network: nn.Module) -> list[torch.dtype]:
    """The types that the layers answer in under autocast."""
    types: list[torch.dtype] = []

    def look(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        types.append(output.dtype)

    handles = [m.register_forward_hook(look) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.autocast("cpu", torch.bfloat16):
        network(torch.randn(2, 3, 10, 12))
    for handle in handles:
        handle.remove()
    return types


def test_without_autocast_nothing_changes() -> None:
    network, images = small(), torch.randn(2, 3, 10, 12)
    expected = network(images)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    depthwise_in_float32(network)
    assert torch.equal(network(images), expected)
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_only_depthwise_convolutions_change() -> None:
    network = small()
    kinds = [type(m) for m in network]
    depthwise_in_float32(network)
    changed = [type(m) is not kind for m, kind in zip(network, kinds, strict=True)]
    assert changed == [False, True, False, True, False]
    assert all(isinstance(m, nn.Conv2d) for m in network)


def test_they_answer_in_the_type_that_came() -> None:
    network = small()
    before = seen(network)
    depthwise_in_float32(network)
    assert seen(network) == before == [torch.bfloat16] * 5


def test_they_compute_in_single_precision() -> None:
    """Weights that bfloat16 would round: 1 + 2**-10 against -1 on an even map is 2**-10, not 0."""
    layer = nn.Conv2d(2, 2, (1, 2), groups=2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1 + 2.0**-10, -1]).expand(2, 1, 1, 2))
    images = torch.ones(1, 2, 1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert (layer(images) == 0).all()
        depthwise_in_float32(nn.Sequential(layer))
        assert torch.equal(layer(images), torch.full((1, 2, 1, 2), 2.0**-10))
        assert torch.equal(layer(images.bfloat16()), torch.full((1, 2, 1, 2), 2.0**-10).bfloat16())


def test_gradients_are_those_of_single_precision() -> None:
    torch.manual_seed(0)
    layer, plain = (nn.Conv2d(8, 8, 3, groups=8) for _ in range(2))
    plain.load_state_dict(layer.state_dict())
    depthwise_in_float32(nn.Sequential(layer))
    images = torch.randn(1, 8, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        layer(images).sum().backward()
    plain(images).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)


def test_copies_compute_on_their_own() -> None:
    """An averaged model is a deep copy; a patched `forward` would have gone on reading the first one's weights."""
    network = small()
    depthwise_in_float32(network)
    for twin in (copy.deepcopy(network), AveragedModel(network).module):
        with torch.no_grad():
            twin[1].weight.zero_()
            twin[1].bias.zero_()
        images = torch.randn(1, 3, 6, 6)
        assert twin[:2](images).abs().sum() == 0
        assert network[:2](images).abs().sum() > 0


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18"])
def test_a_backbone_of_others(name: str) -> None:
    """timm's convolutions that pad like TensorFlow are classes of their own: their padding must survive."""
    torch.manual_seed(0)
    backbone = Backbone(name).eval()
    images = torch.randn(1, 3, 45, 67)
    with torch.no_grad():
        expected = backbone(images)
        depthwise_in_float32(backbone)
        for one, two in zip(expected, backbone(images), strict=True):
            torch.testing.assert_close(one, two)
        with torch.autocast("cpu", torch.bfloat16):
            assert [m.shape for m in backbone(images)] == [m.shape for m in expected]


@pytest.mark.parametrize(
    ("text", "slow"),
    [
        ("flags\t\t: fpu avx2 avx512f", True),
        ("flags\t\t: fpu avx512_bf16 avx2", False),
        ("flags\t\t: amx_bf16", False),
        ("Features\t: fp asimd", False),  # another kind of CPU, which is not known
        (None, False),
    ],
)
def test_cpus_without_bfloat16_are_known_by_their_flags(tmp_path: Path, text: str | None, slow: bool) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert slow_bfloat16(tmp_path / "cpuinfo") == slow
