"""Put PointRend on a network of your own, train both on drawn discs, and compare coarse and rendered labels.

    python examples/train_attached.py [--out discs.png]

The picture: coarse, rendered, truth.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import pointrend
from pointrend.core import Sampling, Subdivision
from pointrend.data import SemanticBatch
from pointrend.models import PointArchitecture
from pointrend.objectives import SemanticLoss, SemanticObjective


def discs(count: int, random: torch.Generator) -> SemanticBatch:
    """Return images (N, 3, 64, 64) of a disc in noise, and labels (N, 64, 64): 1 is the disc."""
    x, y = 20 + 24 * torch.rand(2, count, 1, 1, generator=random)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    labels = ((columns - x) ** 2 + (rows - y) ** 2 < 14**2).long()
    return SemanticBatch(labels[:, None] + 0.3 * torch.randn(count, 3, 64, 64, generator=random), labels)


def main() -> None:
    """Attach, train and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("discs.png"))
    given = parser.parse_args()
    random = torch.manual_seed(0)
    widths = ((3, 16), (16, 32), (32, 32))  # yours: logits at an eighth of the image's size
    layers = [part for a, b in widths for part in (nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU())]
    network = nn.Sequential(*layers, nn.Conv2d(32, 2, 1))
    model = pointrend.attach(network, PointArchitecture(hidden=32), num_classes=2, classes=["rest", "disc"], stem=True)
    objective = SemanticObjective(model.network, SemanticLoss(sampling=Sampling(num_points=256)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for iteration in range(100):
        optimizer.zero_grad()
        objective(discs(8, random), iteration).total.backward()
        optimizer.step()
    images, truth = discs(32, random)
    with torch.no_grad():
        output = model.eval().network(images)
        coarse = model.network.upsampled(output, (64, 64)).argmax(1)
        rendered = model.network.render(output, Subdivision(num_points=512, steps=3)).argmax(1)
    for name, found in (("coarse", coarse), ("rendered", rendered)):
        print(f"{name}: {100 * (found != truth).float().mean():.2f} % of the pixels are wrong")
    side_by_side = np.concatenate([plane[0] for plane in (coarse, rendered, truth)], axis=1) * 255
    Image.fromarray(side_by_side.astype(np.uint8)).resize((768, 256), Image.Resampling.NEAREST).save(given.out)


if __name__ == "__main__":
    main()
