"""Which parameters of a backbone are trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pointrend.errors import PointRendError
from pointrend.models import Backbone
from pointrend.training.freeze import freeze_backbone

RESNET = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
EFFICIENTNET = (("conv_stem", "bn1"), ("blocks.0",), ("blocks.1",), ("blocks.2",), ("blocks.3",))


def trained(backbone: Backbone) -> dict[str, bool]:
    """Whether each parameter is trained, by its name."""
    return {name: parameter.requires_grad for name, parameter in backbone.model.named_parameters()}


@pytest.mark.parametrize(("name", "stages"), [("resnet18", RESNET), ("tf_efficientnet_lite0", EFFICIENTNET)])
@pytest.mark.parametrize("count", range(6))
def test_the_first_stages_are_frozen_and_no_others(name: str, stages: tuple[tuple[str, ...], ...], count: int) -> None:
    backbone = Backbone(name).train()
    freeze_backbone(backbone, norm=False, stages=count)
    prefixes = tuple(f"{part}." for stage in stages[:count] for part in stage)
    assert trained(backbone) == {key: not key.startswith(prefixes) for key in trained(backbone)}
    for key, module in backbone.model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.training is not f"{key}.".startswith(prefixes)
    # Every stage that was named has parameters, so that none is frozen only by name.
    for part in prefixes:
        assert any(key.startswith(part) for key in trained(backbone))


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_frozen_norms_keep_weights_and_statistics(name: str) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name).train()
    freeze_backbone(backbone, norm=True, stages=0)
    norms = {key for key, module in backbone.model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert len(norms) > 10
    assert trained(backbone) == {key: key.rpartition(".")[0] not in norms for key in trained(backbone)}
    before = {key: value.clone() for key, value in backbone.state_dict().items() if "running" in key}
    backbone(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, backbone.state_dict()[key]) for key, value in before.items())


def test_nothing_is_frozen_unless_asked() -> None:
    backbone = Backbone("resnet18").train()
    freeze_backbone(backbone, norm=False, stages=0)
    assert all(trained(backbone).values())
    assert all(module.training for module in backbone.modules())


def test_a_backbone_without_known_stages_is_refused_in_one_line() -> None:
    backbone = Backbone("resnet18")
    backbone.model = nn.Sequential(nn.Conv2d(3, 4, 3))
    freeze_backbone(backbone, norm=True, stages=0)
    with pytest.raises(PointRendError, match="set it to 0") as error:
        freeze_backbone(backbone, norm=False, stages=1)
    assert "\n" not in str(error.value)
