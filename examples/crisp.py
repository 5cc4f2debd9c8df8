"""Show what rendering does to a boundary: a class in the coarse prediction and rendered, enlarged where they differ.

    python examples/crisp.py [PHOTO] [--name hair] [--out crisp.png]

Without a photograph it takes scikit-image's astronaut (NASA, public domain).
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import data

import pointrend
from pointrend.viz import draw_outline

SIDE = 96
"""Of the enlarged part, in pixels."""


def main() -> None:
    """Predict with and without rendering, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", nargs="?", type=Path)
    parser.add_argument("--name", default="hair", help="a class of people-lite0")
    parser.add_argument("--out", type=Path, default=Path("crisp.png"))
    given = parser.parse_args()
    photo = Image.fromarray(data.astronaut()) if given.photo is None else Image.open(given.photo).convert("RGB")

    model = pointrend.load_model("people-lite0")
    index = [info.name for info in model.spec.classes].index(given.name)
    coarse = model.predict(photo, steps=0).labels == index  # the network's own prediction, upsampled
    rendered = model.predict(photo).labels == index

    density = ndimage.uniform_filter((coarse != rendered).astype(np.float32), SIDE)
    half = SIDE // 2
    inner = density[half:-half, half:-half]
    top, left = np.unravel_index(inner.argmax(), inner.shape)
    part = (slice(top, top + SIDE), slice(left, left + SIDE))

    views = [draw_outline(np.asarray(photo)[part], mask[part], mask[part]) for mask in (coarse, rendered)]
    picture = Image.new("RGB", (2 * 480 + 10, 480), "white")
    for column, view in enumerate(views):
        picture.paste(view.convert("RGB").resize((480, 480), Image.Resampling.LANCZOS), (490 * column, 0))
    picture.save(given.out)
    print(f"{given.out}: left coarse, right rendered; {int((coarse != rendered).sum())} pixels of {given.name} differ")


if __name__ == "__main__":
    main()
