"""Test-time augmentation in two ways: rendering in each pass, or once from fused maps.

    python -m benchmarks.augmentation DATA/people/val --model people-lite0 --limit 40

`each` is what the package does. `once` brings the coarse logits and the fine maps of all passes to the grids of the
plain pass, averages them, and renders once. `plain` has one pass.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from pointrend.data import Sample, find_samples
from pointrend.data.images import read_photo
from pointrend.evaluation.split import Scoring, score_split
from pointrend.inputs import Frame, normalised, padded, test_size
from pointrend.models import SemanticOutput
from pointrend.predict import Encoded, PredictOptions, SemanticPredictor, TestAugmentation
from pointrend.zoo import load_model

app = typer.Typer(add_completion=False, rich_markup_mode=None)
PUBLISHED = "0.5,0.75,1,1.25,1.5,1.75"
"""mmsegmentation's scales."""


@torch.inference_mode()
def fused(predictor: SemanticPredictor, pixels: np.ndarray, augmentation: TestAugmentation) -> Encoded[SemanticOutput]:
    """Return the mean coarse logits and fine maps of all passes, on the grids of a pass at scale 1."""
    frame = predictor.encode(pixels).frame
    sums: list[Tensor] = []
    for one in augmentation.passes:
        test = predictor.test.scaled(one.scale)
        seen = np.fliplr(pixels).copy() if one.mirrored else pixels
        image = normalised(seen, test_size(frame.size, test), predictor.spec.input)
        encoded = predictor.encode_input(*padded(image, test.pad_multiple, frame.size))
        output = encoded.output
        maps = [on_plain_grid(m, encoded.frame, frame, mirror=one.mirrored) for m in (output.coarse, *output.fine)]
        sums = maps if not sums else [total + each for total, each in zip(sums, maps, strict=True)]
    coarse, *fine = (total / len(augmentation.passes) for total in sums)
    return Encoded(SemanticOutput(coarse, tuple(fine)), frame)


def on_plain_grid(maps: Tensor, frame: Frame, plain: Frame, *, mirror: bool) -> Tensor:
    """Return maps of a pass, cut to the image, mirrored back, and resized to the plain pass's grid with its padding."""
    factor = maps.shape[2] / frame.padded[0]
    maps = maps[:, :, : max(1, round(frame.valid[0] * factor)), : max(1, round(frame.valid[1] * factor))]
    maps = maps.flip(3) if mirror else maps
    valid = [max(1, round(side * factor)) for side in plain.valid]
    whole = [round(side * factor) for side in plain.padded]
    maps = F.interpolate(maps, size=valid, mode="bilinear", align_corners=False)
    edges = (0, max(0, whole[1] - valid[1]), 0, max(0, whole[0] - valid[0]))
    return F.pad(maps, edges, mode="replicate").contiguous(memory_format=torch.channels_last)


@app.command()
def main(
    data: Path,
    model: str = "people-lite0",
    limit: Annotated[int, typer.Option(min=1)] = 40,
    engine: str = "torch",
    scales: str = PUBLISHED,
    flip: bool = True,
) -> None:
    """Print as JSON the rows of `plain`, `each` and `once`, and the seconds of computation that an image takes."""
    loaded = load_model(model, engine=engine)  # type: ignore[arg-type]
    augmentation = TestAugmentation([float(scale) for scale in scales.split(",")], flip)
    plain = loaded.scoring_predictor()
    each = loaded.scoring_predictor(PredictOptions(augmentation=augmentation))
    assert isinstance(plain, SemanticPredictor)
    assert isinstance(each, SemanticPredictor)
    seconds: dict[str, float] = {}

    def timed(name: str, results: Any) -> Any:
        started = process_time()
        found = results()
        seconds[name] = seconds.get(name, 0.0) + process_time() - started
        return found

    def predict(index: int, sample: Sample) -> tuple[tuple[int, int], dict[str, Any]]:
        pixels = read_photo(sample.image, loaded.spec.input.reading).pixels
        encoded = timed("once", lambda: fused(plain, pixels, augmentation))
        labels = timed("once", lambda: plain.rendered_labels(encoded))
        results = {
            "plain": timed("plain", lambda: plain.predict(pixels)),
            "each": timed("each", lambda: each.predict(pixels)),
            "once, coarse": plain.result(plain.coarse_labels(encoded), pixels, None),
            "once": plain.result(labels, pixels, None),
        }
        return (pixels.shape[0], pixels.shape[1]), {
            name: loaded.task.prediction(result, index) for name, result in results.items()
        }

    split = find_samples(data, task="semantic")
    scored = score_split(split, predict, Scoring(limit=limit))
    wanted: Sequence[str] = tuple(scored.headline)
    rows = {name: {key: round(numbers[key], 2) for key in wanted} for name, numbers in scored.rows.items()}
    spent = {name: round(total / scored.num_images, 2) for name, total in seconds.items()}
    print(json.dumps({"images": scored.num_images, "rows": rows, "seconds": spent}, indent=1))


if __name__ == "__main__":
    app()
