"""Show what rendering does to a boundary: a person in the coarse prediction and rendered, enlarged where it moved most.

    python examples/crisp.py [PHOTO] [--size 192] [--out crisp.png]

The place is that of `explain`: what the mirror image's rendering has moved likewise counts, as it is more likely right.
Without a photograph it takes scikit-image's astronaut (NASA, public domain).
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

import pointrend
from pointrend.explain import choose_window, render
from pointrend.predict import PredictOptions, SemanticPredictor
from pointrend.viz import draw_outline

SIDE = 480
"""Of each half of the picture, in pixels."""


def main() -> None:
    """Render, choose a place, and draw both outlines there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", nargs="?", type=Path)
    parser.add_argument(
        "--size", type=int, default=192, help="shortest edge that the network sees; small for close-ups"
    )
    parser.add_argument("--out", type=Path, default=Path("crisp.png"))
    given = parser.parse_args()
    photo = Image.fromarray(data.astronaut()) if given.photo is None else Image.open(given.photo).convert("RGB")

    predictor = pointrend.load_model("person-lite0").predictor(PredictOptions(size=given.size, steps=4))
    assert isinstance(predictor, SemanticPredictor)
    rendering = render(predictor, np.asarray(photo))
    window = choose_window(rendering)
    scale = photo.height / rendering.encoded.frame.valid[0]  # of the photograph to the network's input
    box = [round(edge * scale) for edge in (window.left, window.top, window.right, window.bottom)]
    part = (slice(box[1], box[3]), slice(box[0], box[2]))

    coarse, rendered = rendering.coarse_labels == 1, rendering.labels == 1
    picture = Image.new("RGB", (2 * SIDE + 10, SIDE), "white")
    for column, mask in enumerate((coarse, rendered)):
        view = draw_outline(np.asarray(photo)[part], mask[part], mask[part]).convert("RGB")
        picture.paste(view.resize((SIDE, SIDE), Image.Resampling.LANCZOS), ((SIDE + 10) * column, 0))
    picture.save(given.out)
    print(f"{given.out}: left coarse, right rendered; {int((coarse != rendered).sum())} pixels differ")


if __name__ == "__main__":
    main()
