from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from pointrend.models import SemanticArchitecture, semantic_pointrend
from pointrend.recipes import OptimSettings
from pointrend.training.optim import build_optimizer, build_schedule, lr_factor

NETWORK = semantic_pointrend(3, SemanticArchitecture(backbone="test_efficientnet", fpn_channels=8, coarse_channels=8))


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


@pytest.mark.parametrize(("norms", "expected"), [(None, {1e-4}), (0.0, {0.0}), (0.5, {0.5})])
def test_norms_have_their_own_weight_decay(norms: float | None, expected: set[float]) -> None:
    architecture = SemanticArchitecture(
        backbone="test_efficientnet", fpn_channels=8, coarse_channels=32, coarse_norm="group"
    )
    network = semantic_pointrend(3, architecture)
    optimizer = build_optimizer(network, OptimSettings(weight_decay=1e-4, norm_weight_decay=norms))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    group_norm, batch_norm = network.coarse_head.levels[0][0][1], network.backbone.model.bn1
    for parameter in (*group_norm.parameters(), *batch_norm.parameters()):
        assert {decay[id(parameter)]} == expected
    for parameter in network.coarse_head.classifier.parameters():  # biases are no norms
        assert decay[id(parameter)] == 1e-4


def test_backbone_has_its_own_rate_and_keeps_the_ratio() -> None:
    settings = OptimSettings(name="adamw", lr=1e-3, backbone_lr=1e-4, power=1.0, min_lr=0.0)
    optimizer = build_optimizer(NETWORK, settings)
    schedule = build_schedule(optimizer, settings, total=100, iteration=50)
    assert max(schedule.get_last_lr()) == pytest.approx(5e-4)
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


def test_a_resumed_schedule_goes_on_where_it_stopped() -> None:
    settings = OptimSettings(lr=0.1, warmup=3, min_lr=0.01)

    def rates(first: int) -> list[float]:
        optimizer = build_optimizer(NETWORK, settings)
        schedule = build_schedule(optimizer, settings, total=10, iteration=first)
        found = []
        for _ in range(first, 10):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    assert rates(0) == pytest.approx([0.1 * lr_factor(i, 10, settings) for i in range(10)])
    assert rates(4) == pytest.approx(rates(0)[4:])


def test_steps_multiply_the_rate() -> None:
    settings = OptimSettings(steps=(4, 6), gamma=0.1)
    assert [lr_factor(i, 10, settings) for i in (0, 3, 4, 5, 6, 9)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
