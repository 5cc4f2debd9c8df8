"""Count the nuclei in an image of a microscope, and measure them.

    python examples/count_nuclei.py [IMAGE] [--out nuclei.png]

Without an image it draws some.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

import pointrend


def drawn() -> Image.Image:
    """Draw bright discs in noise, as a microscope of fluorescence shows nuclei."""
    random = np.random.default_rng(0)
    image = np.zeros((256, 256))
    y, x = np.mgrid[:256, :256]
    for row, column in random.uniform(15, 241, (24, 2)):
        across, along = random.uniform(7, 13, 2)
        image[((x - column) / across) ** 2 + ((y - row) / along) ** 2 < 1] = random.uniform(110, 200)
    noisy = ndimage.gaussian_filter(image, 1.2) + random.normal(18, 4, image.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def main() -> None:
    """Find nuclei, print a summary, save the overlay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=Path("nuclei.png"))
    given = parser.parse_args()
    image = drawn() if given.image is None else Image.open(given.image)

    found = pointrend.load_model("nuclei-lite0").predict(image)

    areas = np.array([row.area for row in found.table()])
    print(f"{len(found)} nuclei; area in pixels: median {np.median(areas):.0f}, largest {areas.max()}")
    best = found[0]
    print(f"the surest: score {best.score:.2f}, box {', '.join(f'{side:.0f}' for side in best.box)}")
    found.overlay().save(given.out)
    print(given.out)


if __name__ == "__main__":
    main()
