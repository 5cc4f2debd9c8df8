"""How crisp the outlines of a person model are, on photographs with exact masks of dancers and of riders.

    python -m benchmarks.person_outlines DATA/edges [--model person-lite0]

A rider's mask has the horse or the scooter too, and a dancer's lacks the audience: a model of people should find one
and not the other. So what is scored are the pixels of the predicted outline within 10 pixels of the true one. Of these
the ratio within 1 and within 2 pixels is printed: coarse, rendered, and rendered and then refined by `refiner-lite0`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

import pointrend
from pointrend.data.masks.distances import distance

DANCERS, RIDERS = ("dance-twirl",), ("horsejump-high", "scooter-black")
NEAR = 10.0
"""Pixels from the true outline within which an outline is scored."""


def outline_distances(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the distances in pixels to the true outline of a mask's pixels that are next to its own outline."""
    beside = (distance(mask) < 0) & (distance(mask) > -1)
    return np.abs(distance(truth)[beside])


def scores(masks: Mapping[str, np.ndarray], truth: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the scores of each stage's mask of a photograph, in percent."""
    found = {}
    for stage, mask in masks.items():
        near = outline_distances(mask, truth)
        near = near[near <= NEAR]
        found[stage] = {f"within {width} px": 100 * float(np.mean(near <= width)) for width in (1, 2)}
    return found


def main() -> None:
    """Print a table for each group of photographs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="person-lite0")
    given = parser.parse_args()
    model = pointrend.load_model(given.model)
    for group, names in (("dancers", DANCERS), ("riders", RIDERS)):
        rows = []
        for path in sorted(path for name in names for path in (given.data / "images").glob(f"*{name}*")):
            truth = np.asarray(Image.open(given.data / "masks" / f"{path.stem}.png").convert("L")) > 127
            stages = {
                stage: found.labels > 0
                for stage, found in model.predictor().compare(np.asarray(Image.open(path))).items()
            }
            stages["refined"] = pointrend.refine(path, stages["pointrend"]).mask
            rows.append(scores(stages, truth))
        if not rows:
            raise SystemExit(f"{given.data}: expected images/ and masks/ with {' or '.join(names)} in the files' names")
        print(f"\n{group}, {len(rows)} photographs")
        for stage in rows[0]:
            means = {name: np.mean([row[stage][name] for row in rows]) for name in rows[0][stage]}
            print(f"  {stage:10}", ", ".join(f"{name} {value:.1f}" for name, value in means.items()))


if __name__ == "__main__":
    main()
