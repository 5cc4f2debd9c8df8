"""What rendering adds to masks by the size of objects, for the card of nuclei-lite0.

    python -m benchmarks.masks_by_size MODEL SPLIT

SPLIT is a folder of images of ids. Each object is compared with the detection (scored over 0.5) whose rendered mask
overlaps it most, by IoU 0.5 at least: the same pairs for all stages. Prints mean IoUs in percent, and the difference of
the last two stages with a 95 % interval: a bootstrap over images.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np

from pointrend.data import find_samples
from pointrend.data.images import read_image
from pointrend.zoo import load_model

SIZES = (0, 10, 16, 24, 32, 48, 10_000)
"""Square roots of areas in pixels."""


def ious(truth: np.ndarray, window: tuple[int, int, int, int], mask: np.ndarray) -> float:
    left, top, right, bottom = window
    shared = int((truth[top:bottom, left:right] & mask).sum())
    return shared / (int(truth.sum()) + int(mask.sum()) - shared)


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    predictor = load_model(sys.argv[1]).predictor()
    samples = find_samples(Path(sys.argv[2]), task="instance", layout="nuclei")
    names: tuple[str, ...] = ()
    found: dict[int, list[tuple[float, ...]]] = defaultdict(list)
    for number, sample in enumerate(samples.samples):
        pixels = read_image(sample.image)
        results = predictor.compare(pixels)
        names = tuple(results)
        stages = [result.masks for result in results.values()]
        known = sample.annotations.read(pixels.shape[:2])
        truths = [known.mask(index) for index in range(len(known.instance_ids))]
        ids = np.zeros(pixels.shape[:2], int)
        for index, truth in enumerate(truths):
            ids[truth] = index + 1
        best: dict[int, tuple[float, ...]] = {}
        for index in range(len(stages[-1])):
            (left, top, right, bottom), mask = stages[-1].crop(index)
            overlaps = np.bincount(ids[top:bottom, left:right][mask], minlength=1)
            overlaps[0] = 0
            if not overlaps.any():
                continue
            truth = int(overlaps.argmax()) - 1
            values = tuple(ious(truths[truth], *masks.crop(index)) for masks in stages)
            best[truth] = max(best.get(truth, (0.0,) * len(stages)), values, key=lambda v: v[-1])
        for truth, values in best.items():
            if values[-1] >= 0.5:
                found[number].append((np.sqrt(truths[truth].sum()), *values))
        print(f"\r{number + 1}/{len(samples.samples)}", end="", file=sys.stderr)
    print(file=sys.stderr)
    random = np.random.default_rng(0)
    print(f"| size in pixels | nuclei | {' | '.join(names)} | last minus 28x28 |\n|---|---|---|---|---|---|")
    for low, high in [*pairwise(SIZES), (0, SIZES[-1])]:
        groups = [np.array([v for v in of_image if low <= v[0] < high]).reshape(-1, 4) for of_image in found.values()]
        groups = [group for group in groups if len(group)]
        if not groups:
            continue
        means = 100 * np.concatenate(groups)[:, 1:].mean(axis=0)
        drawn = [np.concatenate([groups[i] for i in random.integers(0, len(groups), len(groups))]) for _ in range(1000)]
        low_end, high_end = np.percentile([100 * (d[:, 3] - d[:, 2]).mean() for d in drawn], (2.5, 97.5))
        label = "all" if (low, high) == (0, SIZES[-1]) else f"{low} to {high}" if high < SIZES[-1] else f"over {low}"
        difference = f"{means[2] - means[1]:+.2f} ({low_end:+.2f} to {high_end:+.2f})"
        print(f"| {label} | {sum(map(len, groups))} | {' | '.join(f'{m:.2f}' for m in means)} | {difference} |")


if __name__ == "__main__":
    main()
