"""Models for tests of prediction: one whose right answer is known, and a real one that is small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointrend.core import sample_points
from pointrend.core.subdivision import PointPredictor
from pointrend.data.classes import ClassInfo
from pointrend.models import SemanticOutput, SemanticPointRend
from pointrend.zoo.modelfile import Model, SemanticModel, build, save_model
from pointrend.zoo.spec import InputSpec, SemanticArchitecture, SemanticSpec, TestSpec

COLORS = (
    ClassInfo("background", (0, 0, 0)),
    ClassInfo("green", (0, 200, 0)),
    ClassInfo("blue", (0, 0, 200)),
)


class ColorNetwork(SemanticPointRend):
    """The logits are the colour channels: averages over 4 x 4 pixels when coarse, exact at points."""

    def __init__(self, channels: int = 3) -> None:
        nn.Module.__init__(self)
        self.channels = channels
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> SemanticOutput:
        logits = self.gain * images[:, :3]
        if self.channels == 1:  # binary: is it green?
            logits = logits[:, 1:2] - 127.0
        return SemanticOutput(coarse=F.avg_pool2d(logits, 4, ceil_mode=True), fine=(logits,))

    def point_logits(self, output: SemanticOutput, points: Tensor) -> Tensor:
        return sample_points(output.fine[0], points, padding="border")

    def point_predictor(self, output: SemanticOutput) -> PointPredictor:
        return lambda points: self.point_logits(output, points)


@pytest.fixture
def color_model() -> Callable[..., Model]:
    """Makes a model that labels each pixel by its brightest channel (red is background)."""

    def make(*, classes: tuple[ClassInfo, ...] = COLORS, channels: str = "rgb", **test: int) -> Model:
        settings = {"shortest": 48, "longest": 4000, "num_points": 1_000_000, "steps": 2} | test
        logits = 1 if len(classes) == 2 else len(classes)
        spec = SemanticSpec(
            name="colors",
            architecture=SemanticArchitecture(backbone="none", num_classes=logits),
            classes=classes,
            input=InputSpec(mean=(0, 0, 0), std=(1, 1, 1), channels=channels),
            test=TestSpec(**settings),
        )
        return SemanticModel(network=ColorNetwork(logits).eval(), spec=spec)

    return make


@pytest.fixture(scope="session")
def color_image() -> Callable[..., np.ndarray]:
    """Makes pictures of pure red, green and blue areas whose borders lie at odd places."""

    def make(height: int, width: int) -> np.ndarray:
        y, x = np.mgrid[:height, :width]
        index = (x > 0.37 * width + 0.2 * y).astype(int) + (y + 0.3 * x > 0.61 * height)
        return (np.eye(3, dtype=np.uint8) * 255)[index]

    return make


@pytest.fixture(scope="session")
def small_spec() -> SemanticSpec:
    """A real architecture with few channels."""
    return SemanticSpec(
        name="small",
        architecture=SemanticArchitecture(
            backbone="tf_efficientnet_lite0",
            num_classes=3,
            fpn_channels=16,
            coarse_channels=16,
            point_hidden=16,
            fine_strides=(4, 2),
        ),
        classes=COLORS,
        test=TestSpec(shortest=64, longest=128, pad_multiple=32, num_points=256),
        data="coloured paper",
        licence="CC0-1.0",
        scores={"miou": 61.25},
    )


@pytest.fixture(scope="session")
def small_model(small_spec: SemanticSpec) -> Model:
    """The real architecture with random weights."""
    torch.manual_seed(0)
    return SemanticModel(network=build(small_spec).eval(), spec=small_spec)


@pytest.fixture(scope="session")
def small_file(small_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_model` in a file. Tests that change it take a copy."""
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    save_model(path, small_model.network.state_dict(), small_model.spec)
    return path
