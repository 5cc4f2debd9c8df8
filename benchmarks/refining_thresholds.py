"""Chooses a refiner's settings on composites that it was not trained on: cut-outs over other photographs.

    python -m benchmarks.refining_thresholds MODEL DATA [--scenes 12] [--set keep=0.1,0.2] [--set neighbourhood=97,513]

DATA/cutouts are pasted over the photographs of DATA/people/val, 512 pixels a side. Printed is the mean Boundary IoU at
0.5 % of the diagonal of every kind of masks, given and refined, for every combination of the settings.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch

from pointrend.data.images import PHOTO_SUFFIXES
from pointrend.data.masks.corruptions import CORRUPTIONS
from pointrend.data.masks.scenes import Cutouts, Photos, spoiled
from pointrend.refining import refiner
from pointrend.refining.api import Refiner
from pointrend.refining.scoring import mask_scores

SCORE = "boundary_iou_05"
SIDE = 512


def files(folder: Path) -> list[Path]:
    """Return the images in a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)


def scenes(data: Path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return images (H, W, 3) uint8 and their masks (H, W) float32 in [0, 1]."""
    source = Cutouts(
        [files(data / "cutouts" / name) for name in ("emoji3d", "photo_pd", "people_synth")],
        Photos(files(data / "people" / "val" / "images")),
    )
    made: list[tuple[np.ndarray, np.ndarray]] = []
    for seed in itertools.count(10_000):
        random = np.random.default_rng(seed)
        scene = source.draw(SIDE, random)
        if 0.05 < (scene.mask > 0.5).mean() < 0.8:
            made.append((spoiled(scene.image, random), (scene.mask > 0.5).astype(np.float32)))
        if len(made) == count:
            return made
    raise AssertionError


def main() -> None:
    """Print a line a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--kinds", default="true,x8,x16,x32-soft,eroded,polygon")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE,VALUE,...")
    given = parser.parse_args()
    made, kinds = scenes(given.data, given.scenes), given.kinds.split(",")
    predictor = refiner(given.model).predictor
    names = [text.partition("=")[0] for text in given.set]
    values = [text.partition("=")[2].split(",") for text in given.set]
    corrupted = {kind: [CORRUPTIONS[kind](mask) for _, mask in made] for kind in kinds}
    _print("given", {kind: mean([m > 0.5 for m in masks], made) for kind, masks in corrupted.items()})
    for chosen in itertools.product(*values):
        pairs = zip(names, chosen, strict=True)
        changes = {name: float(value) if "." in value else int(value) for name, value in pairs}
        settings = type(predictor.test).model_validate(predictor.test.model_dump() | changes)
        changed = Refiner(predictor.with_settings(settings))
        after = {}
        for kind, masks in corrupted.items():
            pairs_of = zip(made, masks, strict=True)
            refined = [changed.refine(image, mask, kind="probabilities").mask for (image, _), mask in pairs_of]
            after[kind] = mean(refined, made)
        _print(" ".join(f"{name}={value}" for name, value in changes.items()), after)


def mean(masks: list[np.ndarray], made: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the mean score of masks."""
    pairs = zip(masks, made, strict=True)
    return float(np.mean([mask_scores(mask, truth > 0.5)[SCORE] for mask, (_, truth) in pairs]))


def _print(title: str, scores: dict[str, float]) -> None:
    print(f"{title:40s}", "  ".join(f"{kind} {score:5.1f}" for kind, score in scores.items()), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
