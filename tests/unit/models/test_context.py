"""The pyramid with context blocks: at first as torchvision's, then it sees far."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pointrend.errors import PointRendError
from pointrend.models import SemanticArchitecture, SemanticPointRend, semantic_pointrend
from pointrend.models.context import ContextBlock, ContextPyramid
from pointrend.models.folding import prepared
from pointrend.models.settings import HostLayout


def network(context: int) -> SemanticPointRend:
    torch.manual_seed(0)
    return semantic_pointrend(
        3, SemanticArchitecture(backbone="test_resnet", fpn_channels=16, coarse_channels=32, context=context)
    )


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_new_blocks_change_nothing() -> None:
    plain, seeing = network(0).eval(), network(2).eval()
    missing, unexpected = seeing.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("pyramid.context.") for name in missing)
    assert isinstance(seeing.pyramid, ContextPyramid)
    assert len(seeing.pyramid.context) == 2
    for found, expected in zip(seeing.maps(images(2, 3, 96, 64)), plain.maps(images(2, 3, 96, 64)), strict=True):
        torch.testing.assert_close(found, expected)


def test_new_blocks_learn() -> None:
    seeing = network(1).train()
    sum(m.square().mean() for m in seeing.maps(images(2, 3, 96, 64))).backward()
    assert seeing.pyramid.context[0].layers[-1].weight.grad.abs().sum() > 0


def test_a_block_adds_what_lies_four_pixels_around() -> None:
    block = ContextBlock(2, 4).eval()
    nn.init.ones_(block.layers[-1].weight)
    for layer in block.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1.0)
    features = torch.zeros(1, 2, 1, 12)
    features[..., 5] = 1.0
    added = (block(features) - features)[0, 0, 0]
    # Three norms of variance 1 divide by sqrt(1 + 1e-5) each; 2 channels in, 4 out.
    expected = torch.zeros(12)
    expected[1:10] = 2.0 * 4 / (1 + 1e-5) ** 1.5
    torch.testing.assert_close(added, expected)


def test_norms_of_blocks_are_folded() -> None:
    seeing = network(1).eval()
    nn.init.ones_(seeing.pyramid.context[0].layers[-1].weight)
    fast = prepared(seeing)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.pyramid.modules())
    for found, expected in zip(fast.maps(images(1, 3, 96, 64)), seeing.maps(images(1, 3, 96, 64)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_hosts_have_none() -> None:
    with pytest.raises(PointRendError, match="context is for our own pyramid, not for hosts: set it to 0"):
        SemanticArchitecture(context=1, host=HostLayout(family="torchvision", name="fcn_resnet50"))


def test_too_many_blocks() -> None:
    with pytest.raises(PointRendError, match="context: input should be less than or equal to 16, got 17"):
        SemanticArchitecture(context=17)
