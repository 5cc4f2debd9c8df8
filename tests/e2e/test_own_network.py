"""A network of one's own from `attach` to a prediction, on drawn discs: what docs/attach.md does with photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn

import pointrend
from pointrend.spec import SemanticTest


class Mine(nn.Module):
    """A network of one's own: logits at stride 8, upsampled at the end."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU())
        self.deep = nn.Sequential(
            nn.Conv2d(32, 48, 3, 2, 1), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Conv2d(48, 48, 3, 1, 2, dilation=2), nn.BatchNorm2d(48), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Conv2d(48, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(self.deep(self.middle(self.stem(images))))
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)


def draw(folder: Path, count: int, seed: int) -> None:
    """Images of discs on a noisy ground with their labels."""
    random = np.random.default_rng(seed)
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for index in range(count):
        labels = Image.new("L", (96, 96))
        for _ in range(3):
            x, y, radius = (float(random.uniform(low, high)) for low, high in ((15, 80), (15, 80), (6, 16)))
            ImageDraw.Draw(labels).ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
        grey = np.where(np.asarray(labels), 150, 90)[..., None] + random.normal(0, 25, (96, 96, 3))
        Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{index}.png")
        labels.save(folder / "labels" / f"{index}.png")


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("discs")
    draw(root / "train", 24, seed=0)
    draw(root / "val", 6, seed=1)
    (root / "classes.json").write_text(json.dumps(["background", "disc"]))
    return root


SETTINGS = [
    "data.layout=folder",
    "augment.crop=[64, 64]",
    "augment.base_scale=1.0",
    "loss.sampling.num_points=256",
    "train.batch_size=4",
    "train.workers=0",
    "train.precision=32-true",
    "optim.ema=0",
    "optim.lr=3e-3",
    "optim.backbone_lr=3e-3",
    "optim.warmup=5",
]


@pytest.mark.slow
def test_rendering_beats_the_networks_own_upsampling(discs: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = pointrend.attach(Mine(2), test=SemanticTest(shortest=96, longest=96, pad_multiple=8))
    settings = [*SETTINGS, "train.iterations=200", "train.eval_every=200"]
    run = pointrend.train("people-lite0", discs, tmp_path / "run", settings=settings, model=model)
    again = pointrend.load_model(run.model, host=Mine(2))
    rows = pointrend.evaluate(again, discs / "val", layout="folder").rows
    assert rows["pointrend"]["miou"] > rows["coarse"]["miou"]
    assert rows["pointrend"]["boundary_iou"] > rows["coarse"]["boundary_iou"] + 5
    assert again.predict(discs / "val" / "images" / "0.png").labels.shape == (96, 96)
