"""What else one would refine masks with, on the masks of `pointrend eval REFINER DATA --corrupt KIND | --masks DIR`.

    pip install opencv-contrib-python-headless pymatting
    python -m benchmarks.refining_others DATA/edges --corrupt all
    python -m benchmarks.refining_others DATA/people/val --masks DATA/people/val/mediapipe --kind probabilities \
        --fit stretch

Guided filter: the soft mask filtered by the photograph, cut at 0.5. GrabCut and closed-form matting (pymatting) decide
the pixels within `--band` of the outline; GrabCut takes 5 iterations, the alpha of matting is cut at 0.5.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pointrend.data.images import read_photo
from pointrend.data.masks.corruptions import CORRUPTIONS
from pointrend.data.masks.distances import distance
from pointrend.refining.masks import fitted, given_mask
from pointrend.refining.scoring import SCORES, Masks, Pair, corrupted_masks, find_truths, mask_scores, masks_of_folder

Method = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""Refines the soft mask (H, W) of a photograph (H, W, 3) uint8 in a band of pixels; returns a mask (H, W) bool."""


def guided_filter(photo: np.ndarray, soft: np.ndarray, band: int) -> np.ndarray:
    """Filter a soft mask by its photograph; the filter's radius is half the band."""
    import cv2

    guide = photo.astype(np.float32) / 255
    filtered = cv2.ximgproc.guidedFilter(guide, soft, radius=band // 2, eps=1e-4)
    return np.asarray(filtered > 0.5)


def grabcut(photo: np.ndarray, soft: np.ndarray, band: int) -> np.ndarray:
    """Let GrabCut decide the pixels near the outline."""
    import cv2

    away = distance(soft)
    hints = np.where(soft > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    hints[away < -band], hints[away > band] = cv2.GC_FGD, cv2.GC_BGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(photo[..., ::-1])
    cv2.grabCut(bgr, hints, (0, 0, 1, 1), *models, 5, cv2.GC_INIT_WITH_MASK)
    return np.asarray((hints == cv2.GC_FGD) | (hints == cv2.GC_PR_FGD))


def matting(photo: np.ndarray, soft: np.ndarray, band: int) -> np.ndarray:
    """Let closed-form matting decide the pixels near the outline."""
    from pymatting import estimate_alpha_cf

    away = distance(soft)
    trimap = np.full(soft.shape, 0.5)
    trimap[away < -band], trimap[away > band] = 1, 0
    for value, sure in ((1, away.min()), (0, away.max())):  # it needs some of both
        if not (trimap == value).any():
            trimap[away == sure] = value
    return np.asarray(estimate_alpha_cf(photo / 255.0, trimap) > 0.5)


METHODS: dict[str, Method] = {"guided filter": guided_filter, "GrabCut": grabcut, "pymatting": matting}


def score(
    method: Method, pairs: list[Pair], masks: Masks, band: int, kind: str | None, fit: str | None
) -> tuple[dict[str, float], float]:
    """Return means over images in percent, and seconds of CPU time an image."""
    rows, spent = [], 0.0
    for pair in pairs:
        truth, photo = pair.mask(), read_photo(pair.image).pixels
        given = given_mask(masks(pair, truth), kind)  # type: ignore[arg-type]
        soft = fitted(given.planes[0], truth.shape, fit, logits=False)  # type: ignore[arg-type]
        since = time.process_time()
        refined = method(photo, soft.numpy(), band)
        spent += time.process_time() - since
        rows.append(mask_scores(refined, truth))
    return {name: float(np.mean([row[name] for row in rows])) for name in SCORES}, spent / len(pairs)


def main() -> None:
    """Print a line a kind of masks and method, and all as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--corrupt", default="all")
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--kind")
    parser.add_argument("--fit")
    parser.add_argument("--band", type=int, default=16, help="pixels to either side of the outline")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    pairs = find_truths(given.data)[: given.limit]
    names = list(CORRUPTIONS) if given.corrupt == "all" else given.corrupt.split(",")
    kinds: dict[str, Masks] = {name: corrupted_masks(name) for name in names}
    if given.masks is not None:
        kinds = {given.masks.name: masks_of_folder(given.masks)}
    table = []
    for kind, masks in kinds.items():
        for name in given.methods.split(","):
            scores, seconds = score(METHODS[name], pairs, masks, given.band, given.kind, given.fit)
            table.append({"masks": kind, "method": name, "seconds": seconds, **scores})
            listed = "  ".join(f"{key} {value:5.1f}" for key, value in scores.items())
            print(f"{kind:10s}  {name:13s}  {listed}  {seconds:.2f} s", flush=True)
    print(json.dumps(table))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
