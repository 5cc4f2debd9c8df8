"""Draws the README's picture of refinement: a mask as given, refined, and a part of both enlarged.

    python -m benchmarks.refining_picture [--model FILE] [--out docs/refined.png]

The photograph is scikit-image's astronaut (NASA, public domain). The mask is of 64x64 pixels, soft, as
scikit-image's random walker finds it from a few strokes: what README's example does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from skimage import data, segmentation, transform

import pointrend

ZOOM = 128


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="refiner-lite0")
    parser.add_argument("--out", type=Path, default=Path("docs/refined.png"))
    parser.add_argument("--zoom", type=int, nargs=2, default=(10, 150), metavar=("TOP", "LEFT"))
    given = parser.parse_args()
    photo = data.astronaut()
    small = transform.resize(photo, (64, 64))
    strokes = np.zeros((64, 64), np.uint8)
    strokes[:, 0] = strokes[0] = strokes[:, 48:] = strokes[10:22, 8:14] = 1
    strokes[6:16, 24:30] = strokes[24:, 14:26] = 2
    soft = segmentation.random_walker(small, strokes, channel_axis=-1, return_full_prob=True)[1]
    result = pointrend.refine(photo, soft, model=given.model, kind="probabilities")
    top, left = given.zoom
    window = np.s_[top : top + ZOOM, left : left + ZOOM]
    figure = Figure(figsize=(12, 3.3), layout="constrained")
    masks = {"given": result.given != 0, "refined": result.mask}
    for number, (title, mask) in enumerate(masks.items()):
        _draw(figure.add_subplot(1, 4, number + 1), result.image, mask, title, box=(left, top))
        _draw(figure.add_subplot(1, 4, number + 3), result.image[window], mask[window], f"{title}, enlarged")
    figure.savefig(given.out, dpi=100)
    print(f"{given.out}: {int((masks['given'] != masks['refined']).sum())} pixels changed")


def _draw(axes: object, image: np.ndarray, mask: np.ndarray, title: str, box: tuple[int, int] | None = None) -> None:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

    assert isinstance(axes, Axes)
    shown = image.astype(np.float32)
    shown[~mask] = 0.25 * shown[~mask] + 0.75 * np.array([40, 90, 200])
    axes.imshow(shown.astype(np.uint8), interpolation="nearest")
    axes.contour(mask, [0.5], colors="white", linewidths=0.8)
    if box is not None:
        axes.add_patch(Rectangle(box, ZOOM, ZOOM, fill=False, edgecolor="yellow"))
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()


if __name__ == "__main__":
    main()
