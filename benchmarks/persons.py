"""How well models find people: one mask of all that is not the background, scored against labels of 0, 1 and 255.

    python -m benchmarks.persons runs/person-data/coco [--model person-lite0] [--model people-lite0] [--refine]
    python -m benchmarks.persons runs/person-data/val --masks DATA/people/val/mediapipe

`runs/person-data` is what `scripts/person_data.py` makes. IoU over the pixels of all photographs, its mean over
photographs, and the mean Boundary IoU (0.5 % of the diagonal), in percent; what is labelled 255 counts nowhere.
`--refine` adds the same masks after `refiner-lite0`, `--masks` soft masks of another program, resized to the photograph
and cut at 0.5.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

import pointrend
from pointrend.refining.scoring import mask_scores

Finder = Callable[[Path], np.ndarray]
"""From a photograph's path to a mask (H, W) bool."""


def found_by(name: str) -> Finder:
    """Return what finds people by a model: every class but the first."""
    model = pointrend.load_model(name)

    def find(path: Path) -> np.ndarray:
        labels: np.ndarray = model.predict(path).labels  # type: ignore[union-attr]
        return labels > 0

    return find


def masks_in(folder: Path) -> Finder:
    """Return what reads masks of a folder, named as the photographs."""

    def find(path: Path) -> np.ndarray:
        with Image.open(path) as photo, Image.open(folder / f"{path.stem}.png") as soft:
            return np.asarray(soft.convert("L").resize(photo.size, Image.Resampling.BILINEAR)) > 127

    return find


def refined(find: Finder) -> Finder:
    """Return what finds a mask and refines it."""

    def find_and_refine(path: Path) -> np.ndarray:
        mask = find(path)
        return pointrend.refine(path, mask).mask if mask.any() and not mask.all() else mask

    return find_and_refine


def counted(mask: np.ndarray, labels: np.ndarray) -> tuple[int, int, dict[str, float]]:
    """Return the pixels of intersection and union, and the scores of `mask_scores`; labels of 255 count nowhere."""
    known = labels != 255
    found, true = mask & known, labels == 1
    return int((found & true).sum()), int((found | true).sum()), mask_scores(found, true)


def rows(folder: Path, finders: dict[str, Finder]) -> Iterator[str]:
    """Yield a line for each finder."""
    photos = sorted((folder / "images").glob("*.*"))
    if not photos:
        raise SystemExit(
            f"{folder}: expected images/ and labels/ with files; scripts/person_data.py makes such folders"
        )
    for name, find in finders.items():
        counts = []
        for path in track(photos, name):
            labels = np.asarray(Image.open(folder / "labels" / f"{path.stem}.png"))
            counts.append(counted(find(path), labels))
        pooled = 100 * sum(one[0] for one in counts) / sum(one[1] for one in counts)
        means = {key: np.mean([one[2][key] for one in counts]) for key in ("iou", "boundary_iou_05")}
        yield f"{name}: IoU {pooled:.1f}, mean {means['iou']:.1f}, Boundary IoU {means['boundary_iou_05']:.1f}"


def main() -> None:
    """Print a line for each model, and for the masks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with images/ and labels/")
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--refine", action="store_true")
    given = parser.parse_args()
    finders = {name: found_by(name) for name in given.model}
    if given.masks is not None:
        finders[str(given.masks)] = masks_in(given.masks)
    if given.refine:
        finders |= {f"{name}, refined": refined(find) for name, find in finders.items()}
    for row in rows(given.folder, finders or {"person-lite0": found_by("person-lite0")}):
        print(row)


if __name__ == "__main__":
    main()
