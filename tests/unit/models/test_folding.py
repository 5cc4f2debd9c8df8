"""Batch norms inside of convolutions: the same numbers, whatever the backbone; and left alone where they must be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pointrend.models import (
    InstanceArchitecture,
    InstancePointRend,
    MaskArchitecture,
    SemanticArchitecture,
    SemanticPointRend,
    instance_pointrend,
    semantic_pointrend,
)
from pointrend.models.folding import prepared


def norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


def unsettled(network: nn.Module) -> None:
    """Statistics and weights of norms that change something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "tf_efficientnet_lite0", "regnety_002"])
@pytest.mark.parametrize("task", ["semantic", "instance"])
def test_the_same_numbers_without_norms(backbone: str, task: str) -> None:
    torch.manual_seed(0)
    network: SemanticPointRend | InstancePointRend
    if task == "semantic":
        network = semantic_pointrend(3, SemanticArchitecture(backbone=backbone, fpn_channels=8, coarse_channels=8))
    else:
        network = instance_pointrend(
            3, InstanceArchitecture(backbone=backbone, fpn_channels=8, box_hidden=8, mask=MaskArchitecture(hidden=8))
        )
    unsettled(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = prepared(network)
    assert norms(made) == 0 < norms(network)
    assert not made.training
    assert network.training
    images = torch.randn(2, 3, 70, 97)
    network.eval()
    with torch.inference_mode():
        for expected, found in zip(network.maps(images), made.maps(images), strict=True):
            assert float((expected - found).abs().max()) < 1e-4 * float(expected.std())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


class Odd(nn.Module):
    """A convolution's output goes to its norm and elsewhere."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.shared = shared

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.convolution(images)
        return (self.norm(x), x) if self.shared else (self.norm(x.relu()),)


@pytest.mark.parametrize("shared", [True, False])
def test_what_cannot_be_folded_is_given_back(shared: bool) -> None:
    network = Odd(shared=shared)
    unsettled(network)
    made = prepared(network)
    network.eval()
    images = torch.randn(1, 3, 20, 20)
    for expected, found in zip(network.maps(images), made.maps(images), strict=True):
        torch.testing.assert_close(expected, found)  # the copy computes channels-last
    assert norms(made) == 1


def test_without_norms_it_is_a_copy() -> None:
    network = Odd(shared=False)
    network.norm = nn.Identity()  # type: ignore[assignment]
    made = prepared(network)
    assert made is not network
    images = torch.randn(1, 3, 20, 20)
    network.eval()
    for expected, found in zip(network.maps(images), made.maps(images), strict=True):
        torch.testing.assert_close(expected, found)
