"""Points under autocast: half precision cannot tell 2048 columns apart, so points and what they read are float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pointrend.data import SemanticBatch
from pointrend.models.point_head import PointHead
from pointrend.models.semantic_network import SemanticNetwork
from pointrend.models.settings import PointArchitecture
from pointrend.objectives.semantic import SemanticLoss, SemanticObjective

WIDTH, HEIGHT, CLASSES = 2048, 8, 2


class Columns(SemanticNetwork):
    """A network whose fine map holds the column of each pixel of the image; its point head keeps what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.point_head = PointHead(in_channels=1, num_classes=CLASSES, architecture=PointArchitecture(hidden=4))
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.padding = "border"
        self.read = torch.zeros(0)
        self.at = torch.zeros(0)
        self.point_head.register_forward_pre_hook(self._keep)

    def _keep(self, _: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.read = inputs[0]

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        columns = torch.arange(WIDTH, dtype=torch.float32).expand(1, 1, HEIGHT, WIDTH) * self.weight.float()
        coarse = torch.nn.functional.conv2d(images[:, :CLASSES, ::4, ::4], torch.eye(CLASSES)[..., None, None])
        return coarse, columns

    def point_logits(self, output: object, points: Tensor) -> Tensor:
        self.at = points
        return super().point_logits(output, points)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_points_of_an_image_2048_pixels_wide_keep_their_places(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    network = Columns()
    labels = (torch.arange(WIDTH) % 2).expand(1, HEIGHT, WIDTH).contiguous()  # another class in each column
    objective = SemanticObjective(network, SemanticLoss())
    with torch.autocast("cpu", dtype=kind):
        losses = objective(SemanticBatch(torch.rand(1, 3, HEIGHT, WIDTH), labels), 1)
    losses.total.backward()
    assert network.at.dtype == network.read.dtype == torch.float32
    expected = (network.at[0, :, 0].double() * WIDTH - 0.5).clamp(0, WIDTH - 1)
    assert (network.read[0, :, 0].double() - expected).abs().max() < 1e-2  # in half precision: up to 4 columns
    assert losses.total.dtype == losses.points.dtype == torch.float32
    assert network.weight.grad is not None
    assert network.weight.grad.isfinite()
