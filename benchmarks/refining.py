"""Time and memory of refining one mask of a large photograph, beside the same network run densely.

    python -m benchmarks.refining [--model FILE] [--size 4000 6000]

Densely: all windows that tile the photograph, with a prediction at every pixel. So many would take minutes, so a sample
of them is timed and the rest is counted.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from pointrend.core import Subdivision
from pointrend.core.mask_input import mask_channels
from pointrend.models import MaskRefiner
from pointrend.peak import peak, reset_peak
from pointrend.predict import RefinerPredictor
from pointrend.predict.refining.passes import window_logits
from pointrend.predict.refining.windows import Grid
from pointrend.refining import refiner
from pointrend.spec import RefinerSpec
from pointrend.zoo import Model

SAMPLE = 12
"""Windows that are timed densely."""


def person(size: tuple[int, int]) -> np.ndarray:
    """Return a mask (H, W) bool of about a person's outline: a head, a body, arms and legs."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    y, x = y / size[0], (x - size[1] / 2) / size[0]
    body = (abs(x) < 0.1) & (y > 0.22) & (y < 0.6)
    arms = (abs(abs(x) - 0.14) < 0.025) & (y > 0.24) & (y < 0.55)
    legs = (abs(abs(x) - 0.055) < 0.035) & (y >= 0.6) & (y < 0.95)
    return (np.hypot(x, y - 0.15) < 0.06) | body | arms | legs


def main() -> None:
    """Print seconds of CPU time, windows and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a refiner; by default one with random weights, which takes as long")
    parser.add_argument("--size", type=int, nargs=2, default=(4000, 6000))
    given = parser.parse_args()
    size = (given.size[0], given.size[1])
    model = given.model or Model(MaskRefiner(), RefinerSpec(name="random")).eval()
    chosen = refiner(model, keep=0)
    random = np.random.default_rng(0)
    truth = person(size)
    photo = np.where(truth[..., None], 150, 90).astype(np.uint8).repeat(3, axis=2)
    photo += random.integers(0, 40, (*size, 1), dtype=np.uint8)
    soft = torch.nn.functional.interpolate(torch.from_numpy(truth)[None, None].float(), size=(256, 256), mode="area")
    reset_peak(torch.device("cpu"))
    windows = 0

    def advance(count: int) -> None:
        nonlocal windows
        windows += count

    begun = time.process_time()
    chosen.refine(photo, soft[0, 0], kind="probabilities", fit="stretch", progress=advance)
    ours = time.process_time() - begun
    memory = peak(torch.device("cpu"))
    dense, tiles = dense_seconds(chosen.predictor, size)
    print(f"{size[0]} x {size[1]}, one person, {torch.get_num_threads()} threads")
    print(f"refined: {ours:.1f} s of CPU time, {windows} windows")
    print(f"densely: {dense:.1f} s, {tiles} windows twice ({SAMPLE} timed); ratio {dense / ours:.1f}")
    if memory is not None:
        print(f"peak memory of the process {memory.bytes / 1e9:.2f} GB")


@torch.inference_mode()
def dense_seconds(predictor: RefinerPredictor, size: tuple[int, int]) -> tuple[float, int]:
    """Return the CPU time of two passes over all windows of an image with every pixel predicted, and their number."""
    test = predictor.test
    every = test.model_copy(update={"subdivision": Subdivision(num_points=test.window**2, steps=2)})
    tiles = len(Grid(size, test.window, test.margin).corners(torch.ones(size, dtype=torch.bool)))
    images = torch.randint(0, 255, (test.batch, 3, test.window, test.window), dtype=torch.uint8)
    masks = torch.rand(test.batch, 1, test.window, test.window)
    inputs = torch.cat((predictor.normalised(images), mask_channels(masks, masks)), dim=1)
    window_logits(predictor.network, inputs, every)
    begun = time.process_time()
    for _ in range(SAMPLE // test.batch):
        window_logits(predictor.network, inputs, every)
    return 2 * tiles * (time.process_time() - begun) / SAMPLE, tiles


if __name__ == "__main__":
    main()
