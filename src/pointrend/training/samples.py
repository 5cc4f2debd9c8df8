"""`samples/`: a few images of the validation split, always the same, with their truth and what the model predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pointrend.data import Sample, SampleSet
from pointrend.data.images import read_photo
from pointrend.files import write_atomically
from pointrend.results.files import png_bytes
from pointrend.viz import add_legend, brightened, draw_truth
from pointrend.zoo import Model

SAMPLES_FOLDER = "samples"
COUNT = 4
EDGE = 400
"""Pixels of the longest edge of an image in the picture."""
GAP = 8
HEAD = 26
TEXT = 15
TITLES = ("photograph", "truth", "prediction")
MAX_LEGEND = 40
"""The maximum number of classes in a legend."""


def chosen(samples: SampleSet, count: int = COUNT) -> list[Sample]:
    """Return so many samples, evenly spaced from the first to the last."""
    found = samples.samples
    places = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [found[place] for place in places.tolist()]


def save_samples(model: Model, samples: SampleSet, path: Path) -> None:
    """Draw what a model predicts for a few images beside their photographs and truths; write it atomically."""
    predictor = model.predictor()
    classes = model.spec.classes  # those of the data, with one colour each for truth and prediction
    rows = []
    for sample in chosen(samples):
        pixels = read_photo(sample.image, model.spec.input.reading).pixels
        size = (pixels.shape[0], pixels.shape[1])
        truth = draw_truth(pixels, sample.annotations.truth(size), classes)
        drawn = (Image.fromarray(brightened(pixels)), truth, predictor.predict(pixels).overlay())
        # Without legends, which lie below or at the right.
        rows.append([_small(image.crop((0, 0, size[1], size[0]))) for image in drawn])
    picture = beside_each_other(rows, TITLES)
    if 1 < len(classes) <= MAX_LEGEND:
        picture = add_legend(picture, [(info, info.name) for info in classes], text=TEXT, below=True)
    write_atomically(path, png_bytes(picture))


def beside_each_other(rows: Sequence[Sequence[Image.Image]], titles: Sequence[str]) -> Image.Image:
    """Return rows of images as one, each column with a title, and as wide as its widest image."""
    widths = [max(row[column].width for row in rows) for column in range(len(titles))]
    heights = [max(image.height for image in row) for row in rows]
    size = (sum(widths) + GAP * (len(widths) + 1), HEAD + sum(heights) + GAP * len(heights))
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=TEXT)
    left = GAP
    for column, (title, width) in enumerate(zip(titles, widths, strict=True)):
        draw.text((left + width / 2, HEAD / 2), title, fill="black", font=font, anchor="mm")
        top = HEAD
        for row, height in zip(rows, heights, strict=True):
            picture.paste(row[column], (left, top))
            top += height + GAP
        left += width + GAP
    return picture


def _small(image: Image.Image) -> Image.Image:
    factor = EDGE / max(image.size)
    size = (max(1, round(factor * image.width)), max(1, round(factor * image.height)))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.NEAREST)
