"""scripts/bundle_model.py: a threshold becomes a shift of the logit, and of nothing else."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

from pointrend.models import PointArchitecture, SemanticArchitecture, semantic_pointrend

SCRIPT = Path(__file__).parents[3] / "scripts" / "bundle_model.py"


@pytest.mark.parametrize("coarse_every_layer", [True, False])
@torch.no_grad()
def test_every_logit_is_shifted(coarse_every_layer: bool) -> None:
    torch.manual_seed(0)
    point = PointArchitecture(hidden=8, normalize=True, coarse_every_layer=coarse_every_layer, padding="border")
    architecture = SemanticArchitecture(backbone="test_resnet", fpn_channels=8, coarse_channels=8, point=point)
    network = semantic_pointrend(1, architecture).eval()
    nn.init.normal_(network.point_head.classifier.weight)
    images, points = torch.randn(2, 3, 64, 64), torch.rand(2, 50, 2)
    before = network(images)
    at_points = network.point_logits(before, points)
    runpy.run_path(str(SCRIPT))["shift_logit"](network, 0.7)
    after = network(images)
    torch.testing.assert_close(after.coarse, before.coarse + 0.7)
    torch.testing.assert_close(network.point_logits(after, points), at_points + 0.7, rtol=1e-4, atol=1e-4)
