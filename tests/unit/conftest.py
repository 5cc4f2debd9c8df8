"""Models for tests of prediction: one whose right answer is known, and a real one that is small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointrend.core import Subdivision, sample_points
from pointrend.core.subdivision import PointPredictor
from pointrend.data import InputSpec
from pointrend.data.classes import ClassInfo
from pointrend.models import PointArchitecture, SemanticArchitecture, SemanticOutput, SemanticPointRend
from pointrend.spec import SemanticSpec, SemanticTest
from pointrend.zoo import Model, save_model
from pointrend.zoo.modelfile import network_of

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
        settings: dict[str, object] = {"shortest": 48, "longest": 4000} | test
        settings["subdivision"] = Subdivision(test.pop("num_points", 1_000_000), test.pop("steps", 2))
        settings = {name: value for name, value in settings.items() if name not in ("num_points", "steps")}
        logits = 1 if len(classes) == 2 else len(classes)
        spec = SemanticSpec(
            name="colors",
            num_logits=logits,
            architecture=SemanticArchitecture(backbone="none"),
            classes=classes,
            input=InputSpec(mean=(0, 0, 0), std=(1, 1, 1), channels=channels),
            test=SemanticTest(**settings),
        )
        return Model(ColorNetwork(logits), spec).eval()

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
        num_logits=3,
        architecture=SemanticArchitecture(
            backbone="tf_efficientnet_lite0",
            fpn_channels=16,
            coarse_channels=16,
            fine_strides=(4, 2),
            point=PointArchitecture(hidden=16),
        ),
        classes=COLORS,
        test=SemanticTest(shortest=64, longest=128, pad_multiple=32, subdivision=Subdivision(256, 2)),
        data="coloured paper",
        licence="CC0-1.0",
        scores={"miou": 61.25},
    )


@pytest.fixture(scope="session")
def small_model(small_spec: SemanticSpec) -> Model:
    """The real architecture with random weights."""
    torch.manual_seed(0)
    return Model(network_of(small_spec), small_spec).eval()


@pytest.fixture(scope="session")
def small_file(small_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_model` in a file. Tests that change it take a copy."""
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    save_model(small_model, path)
    return path
