"""The peak memory of a prediction in several passes, of a process of its own.

    python -m benchmarks.augmentation_memory --classes 150 --height 1024 --width 2048

The network has random weights, so that passes differ nearly everywhere: more than any trained model needs.
"""

from __future__ import annotations

import json
import resource
import time
from typing import Annotated

import numpy as np
import torch
import typer

from pointrend.data.classes import ClassInfo, generate_colors
from pointrend.models import SemanticArchitecture
from pointrend.predict import PredictOptions, TestAugmentation
from pointrend.spec import SemanticSpec, SemanticTest
from pointrend.zoo import Model
from pointrend.zoo.modelfile import network_of

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    height: int = 1024,
    width: int = 2048,
    classes: Annotated[int, typer.Option(min=3)] = 150,
    backbone: str = "tf_efficientnet_lite0",
    channels: Annotated[int, typer.Option(help="Of the pyramid and the coarse head; 256 and 128 as published.")] = 64,
    scales: str = "0.5,0.75,1,1.25,1.5,1.75",
    flip: bool = True,
) -> None:
    """Print as JSON the peak memory in MB, before the prediction and after it, and its seconds."""
    torch.manual_seed(0)
    colors = generate_colors(24)
    spec = SemanticSpec(
        name="random",
        num_logits=classes,
        architecture=SemanticArchitecture(backbone=backbone, fpn_channels=channels, coarse_channels=channels),
        classes=tuple(ClassInfo(f"class {i}", colors[i % 24]) for i in range(classes)),
        test=SemanticTest(shortest=min(height, width), longest=max(height, width), pad_multiple=32),
    )
    model = Model(network_of(spec), spec).eval()
    options = PredictOptions(augmentation=TestAugmentation([float(scale) for scale in scales.split(",")], flip))
    predictor = model.predictor(options)
    blocks = np.random.default_rng(0).integers(0, 256, (height // 32 + 1, width // 32 + 1, 3), np.uint8)
    pixels = blocks.repeat(32, 0).repeat(32, 1)[:height, :width]
    before, started = peak(), time.perf_counter()
    result = predictor.predict(pixels)
    seconds = time.perf_counter() - started
    print(json.dumps({"before": before, "peak": peak(), "seconds": round(seconds), "classes found": len(result)}))


def peak() -> int:
    """Return the process's peak memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    app()
