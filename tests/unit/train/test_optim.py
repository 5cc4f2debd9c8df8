from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from pointrend.models import semantic_pointrend
from pointrend.train.optim import build_optimizer, lr_factor, set_lr
from pointrend.train.recipe import OptimSettings

NETWORK = semantic_pointrend(backbone="test_efficientnet", num_classes=3, fpn_channels=8, coarse_channels=8)


def test_lr_is_linear_warmup_times_poly_decay() -> None:
    settings = OptimSettings(warmup=10, power=0.9, min_lr=0.01)
    factors = [lr_factor(i, 100, settings) for i in range(100)]
    assert factors[0] == pytest.approx(1 / 11)
    assert max(factors) == factors[10]
    assert factors[50] == pytest.approx(0.01 + 0.99 * 0.5**0.9)
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert lr_factor(100, 100, settings) == pytest.approx(0.01)


def test_no_warmup_starts_at_the_full_rate() -> None:
    assert lr_factor(0, 100, OptimSettings(warmup=0)) == 1.0


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_every_parameter_is_in_one_group(name: str) -> None:
    optimizer = build_optimizer(NETWORK, OptimSettings(name=name))
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in NETWORK.parameters())


def test_backbone_has_its_own_rate_and_keeps_the_ratio() -> None:
    optimizer = build_optimizer(NETWORK, OptimSettings(name="adamw", lr=1e-3, backbone_lr=1e-4))
    assert set_lr(optimizer, 0.5) == pytest.approx(5e-4)
    backbone = {id(p) for p in NETWORK.backbone.parameters()}
    for group in optimizer.param_groups:
        expected = 5e-5 if id(group["params"][0]) in backbone else 5e-4
        assert group["lr"] == pytest.approx(expected)


def test_adamw_does_not_decay_norms_and_biases() -> None:
    optimizer = build_optimizer(NETWORK, OptimSettings(name="adamw", weight_decay=0.1))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)


def test_sgd_is_the_published_one() -> None:
    optimizer = build_optimizer(NETWORK, OptimSettings())
    assert isinstance(optimizer, torch.optim.SGD)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {5e-4}
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
