"""What starting from a bundled model is worth: twenty photographs, other classes, from ImageNet's weights and from it.

    python -m benchmarks.fine_tuning --data DATA/people --out runs/fine-tuning [--photos 20] [--seeds 3]

The classes of people are merged into three: background, body (skin and hair) and clothing (all else). Trainings that
are done are not repeated. The photographs are some that the bundled model was trained on, with other classes; it was
not trained on those of `val`, by which the trainings are scored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pointrend.studies import Variant, compare_variants

CLASSES = ("background", "body", "clothing")
BODY = ("skin", "hair")
STARTS = (
    Variant("ImageNet", ("start.weights=imagenet",)),
    Variant("people-lite0", ("start.weights=people-lite0",)),
)


def merged(data: Path, out: Path, photos: int) -> Path:
    """Write a data set of the merged classes, with so many photographs to train on, evenly spaced over all."""
    names = json.loads((data / "classes.json").read_text())
    table = np.full(256, 255, np.uint8)
    for index, name in enumerate(names):
        table[index] = 0 if index == 0 else 1 if name in BODY else 2
    for split in ("train", "val"):
        (out / split / "images").mkdir(parents=True, exist_ok=True)
        (out / split / "labels").mkdir(exist_ok=True)
        images = sorted((data / split / "images").iterdir())
        for image in images[:: len(images) // photos][:photos] if split == "train" else images:
            labels = np.asarray(Image.open(data / split / "labels" / f"{image.stem}.png"))
            Image.fromarray(table[labels]).save(out / split / "labels" / f"{image.stem}.png")
            link = out / split / "images" / image.name
            if not link.exists():
                link.symlink_to(image.resolve())
    (out / "classes.json").write_text(json.dumps(CLASSES))
    return out


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of all trainings")
    given = parser.parse_args()
    table = compare_variants(
        "start",
        STARTS,
        "people-lite0",
        merged(given.data, given.out / "data", given.photos),
        given.out,
        seeds=given.seeds,
        settings=[
            "train.iterations=300",
            "train.batch_size=4",
            "train.eval_images=null",
            "train.save_every=50",
            *given.set,
        ],
        progress=lambda title, done, total: print(f"{done} of {total} done; {title}", flush=True),
    )
    print(table.markdown())


if __name__ == "__main__":
    main()
