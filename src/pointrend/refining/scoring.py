"""Scores of refined masks: how near a mask is to the truth, before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pointrend.data.images import PHOTO_SUFFIXES, read_photo
from pointrend.errors import PointRendError
from pointrend.metrics.boundary import boundary_band, boundary_width
from pointrend.refining.api import Refiner
from pointrend.refining.masks import Fit, Kind

WIDTHS: Mapping[str, Callable[[tuple[int, int]], int]] = {
    "boundary_iou_2": lambda size: boundary_width(size, 0.02),
    "boundary_iou_05": lambda size: boundary_width(size, 0.005),
    "boundary_iou_3px": lambda size: 3,
}
"""Bands of Boundary IoU: 2 % and 0.5 % of the diagonal, and 3 pixels."""
SCORES = ("iou", *WIDTHS)
TRUTHS = ("masks", "labels")
"""Folders beside images/ that hold the truth: 0 and 255, or labels of which all but 0 and 255 are the object."""


@dataclass(frozen=True)
class Pair:
    """An image and its true mask."""

    image: Path
    truth: Path
    labels: bool
    """The truth is a label map or ids."""

    def mask(self) -> np.ndarray:
        """Return the true mask (H, W) bool."""
        with Image.open(self.truth) as image:
            if not self.labels:
                return np.asarray(image.convert("L")) > 127
            values = np.asarray(image)
            return np.asarray((values != 0) & ((values != 255) | (values.dtype != np.uint8)))


@dataclass(frozen=True)
class RefinedScores:
    """Means over all images, in percent."""

    kind: str
    """Of the masks that were refined."""
    before: Mapping[str, float]
    after: Mapping[str, float]
    images: int

    def to_dict(self) -> dict[str, object]:
        """Return the scores for JSON."""
        return {"kind": self.kind, "images": self.images, "before": dict(self.before), "after": dict(self.after)}


def find_truths(root: str | Path) -> list[Pair]:
    """Return the images of a folder with `images/` and `masks/` or `labels/`.

    Raises:
        PointRendError: there are no such folders, or no image has a mask.
    """
    root = Path(root)
    folder = next((root / name for name in TRUTHS if (root / name).is_dir()), None)
    if folder is None or not (root / "images").is_dir():
        raise PointRendError(f"{root}: expected a folder with images/ and masks/ (0 and 255) or labels/")
    truths = {path.stem: path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES}
    images = sorted(path for path in (root / "images").iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    pairs = [Pair(image, truths[image.stem], folder.name == "labels") for image in images if image.stem in truths]
    if not pairs:
        raise PointRendError(f"{folder}: no mask has the name of an image in {root / 'images'}")
    return pairs


def mask_scores(mask: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return IoU and Boundary IoU of a mask (H, W) bool, in percent; 100 where both are empty."""
    a, b = torch.from_numpy(np.ascontiguousarray(mask)), torch.from_numpy(np.ascontiguousarray(truth))
    size = (mask.shape[0], mask.shape[1])
    scores = {"iou": _ratio(a, b)}
    for name, width in WIDTHS.items():
        pixels = width(size)
        scores[name] = _ratio(a & boundary_band(a.long(), pixels), b & boundary_band(b.long(), pixels))
    return scores


def _ratio(a: torch.Tensor, b: torch.Tensor) -> float:
    union = int((a | b).sum())
    return 100.0 if union == 0 else 100 * int((a & b).sum()) / union


Masks = Callable[[Pair, np.ndarray], object]
"""Gives the mask to refine for an image and its true mask (H, W) bool."""


def score_refiner(
    refiner: Refiner,
    pairs: Sequence[Pair],
    masks: Masks,
    name: str,
    *,
    kind: Kind | None = None,
    fit: Fit | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RefinedScores:
    """Refine the masks of images, and score them before and after.

    Args:
        refiner: to score.
        pairs: of `find_truths`.
        masks: gives what is refined.
        name: of this kind of masks, for the table.
        kind, fit: see `refine`.
        progress: called with the number of images done and their total.

    Raises:
        PointRendError: an image or a mask cannot be read, or is of another size than its truth.
    """
    rows = []
    for done, (before, after) in enumerate(_each(refiner, pairs, masks, kind, fit), start=1):
        rows.append((before, after))
        if progress is not None:
            progress(done, len(pairs))
    means = [{score: float(np.mean([row[side][score] for row in rows])) for score in SCORES} for side in (0, 1)]
    return RefinedScores(name, means[0], means[1], len(rows))


def _each(
    refiner: Refiner, pairs: Sequence[Pair], masks: Masks, kind: Kind | None, fit: Fit | None
) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    for pair in pairs:
        truth = pair.mask()
        pixels = read_photo(pair.image).pixels
        if pixels.shape[:2] != truth.shape:
            raise PointRendError(
                f"{pair.truth}: is {truth.shape[0]} x {truth.shape[1]}, its image {pixels.shape[0]} x {pixels.shape[1]}"
            )
        result = refiner.refine(pixels, masks(pair, truth), kind=kind, fit=fit)
        yield mask_scores(result.given != 0, truth), mask_scores(result.mask, truth)


def corrupted_masks(kind: str) -> Masks:
    """Return what makes masks of a kind of `data.masks.corruptions.CORRUPTIONS` of true ones.

    Raises:
        PointRendError: there is no such kind.
    """
    from pointrend.data.masks.corruptions import CORRUPTIONS

    if kind not in CORRUPTIONS:
        raise PointRendError(f"--corrupt must be some of {', '.join(CORRUPTIONS)}, or all; got {kind!r}")
    return lambda pair, truth: CORRUPTIONS[kind](truth.astype(np.float32))


def masks_of_folder(folder: Path) -> Masks:
    """Return what gives the masks in a folder, by the images' stems.

    Raises:
        PointRendError: there is no such folder.
    """
    if not folder.is_dir():
        raise PointRendError(f"{folder}: no such folder of masks")
    found = {path.stem: path for path in sorted(folder.iterdir())}

    def given(pair: Pair, truth: np.ndarray) -> object:
        if pair.image.stem not in found:
            raise PointRendError(f"{folder}: no mask is called {pair.image.stem}")
        return found[pair.image.stem]

    return given
