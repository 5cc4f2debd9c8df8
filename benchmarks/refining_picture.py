"""Draws the README's picture of refinement: a mask as given, refined, and a part of both enlarged.

    python -m benchmarks.refining_picture [--model FILE] [--out docs/refined.png]

The photograph is scikit-image's astronaut (NASA, public domain). The mask is what a network with few pixels gives:
people as `people-lite0` finds them, averaged over squares of 32 pixels, as soft as that is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import skimage
from matplotlib.figure import Figure

import pointrend
from pointrend.data.masks.corruptions import coarse

ZOOM = 96


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="refiner-lite0")
    parser.add_argument("--out", type=Path, default=Path("docs/refined.png"))
    parser.add_argument("--zoom", type=int, nargs=2, default=(40, 160), metavar=("TOP", "LEFT"))
    given = parser.parse_args()
    photo = Path(skimage.__file__).with_name("data") / "astronaut.png"
    people = pointrend.load_model("people-lite0").predict(photo).labels != 0
    soft = coarse(people.astype(np.float32), 32)
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
