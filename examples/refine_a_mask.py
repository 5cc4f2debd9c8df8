"""Refine the mask of another program: scikit-image's random walker finds a soft one from a few strokes.

    python examples/refine_a_mask.py [--out refined.png]

The photograph is scikit-image's astronaut (NASA, public domain).
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data, segmentation, transform

import pointrend


def main() -> None:
    """Find a soft mask on 64x64 pixels, and refine it on the photograph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("refined.png"))
    given = parser.parse_args()

    photo = data.astronaut()
    small = transform.resize(photo, (64, 64))
    strokes = np.zeros((64, 64), np.uint8)
    strokes[:, 0] = strokes[0] = strokes[:, 48:] = strokes[10:22, 8:14] = 1  # what is not the person
    strokes[6:16, 24:30] = strokes[24:, 14:26] = 2
    soft = segmentation.random_walker(small, strokes, channel_axis=-1, return_full_prob=True)[1]

    refined = pointrend.refine(photo, soft, kind="probabilities")

    pair = [Image.fromarray(mask).convert("L") for mask in (refined.given, refined.mask)]
    picture = Image.new("L", (2 * photo.shape[1] + 10, photo.shape[0]), 128)
    for index, mask in enumerate(pair):
        picture.paste(mask, (index * (photo.shape[1] + 10), 0))
    picture.save(given.out)
    print(f"{given.out}: left given, right refined; {int(refined.changed.sum())} pixels changed")


if __name__ == "__main__":
    main()
