"""Whole predictions, from a file to a file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from pointrend.bench.dense import dense_labels
from pointrend.bench.inputs import MakeLogits, photo
from pointrend.bench.measure import Spread, interleaved, ratios
from pointrend.bench.rows import Row
from pointrend.data.images import read_image
from pointrend.inputs import network_input
from pointrend.models import SemanticOutput
from pointrend.overlap import overlapped
from pointrend.predict import SemanticPredictor
from pointrend.results.files import save_png
from pointrend.zoo.load import load_model
from pointrend.zoo.manifest import PUBLISHED
from pointrend.zoo.modelfile import SemanticModel, build
from pointrend.zoo.spec import SemanticSpec

MODEL = "mmseg-r50-cityscapes"


@torch.inference_mode()
def street_row(
    make_logits: MakeLogits, folder: Path, *, size: tuple[int, int], repeats: int, tick: Callable[[], None]
) -> Row:
    """A published architecture with new weights, from a photograph to its labels as PNG.

    New weights make labels that no photograph has, so both renderings get realistic coarse logits instead.
    """
    torch.manual_seed(0)
    spec = PUBLISHED[MODEL].spec
    assert isinstance(spec, SemanticSpec)
    eager = build(spec).eval()
    predictor = SemanticPredictor(SemanticModel(copy.deepcopy(eager), spec))
    path = folder / "street.jpg"
    Image.fromarray(photo(*size)).save(path, quality=92)
    sample = predictor.dense(read_image(path))
    coarse = make_logits(spec.architecture.num_classes, sample.output.coarse.shape[2], sample.output.coarse.shape[3])
    as_given = coarse.contiguous(memory_format=torch.channels_last)
    test = predictor.test

    def reference() -> None:
        pixels = read_image(path)
        output: SemanticOutput = eager(network_input(pixels, input=spec.input, test=test).tensor)
        labels = dense_labels(coarse, output.fine[0], eager.point_head, num_points=test.num_points, steps=test.steps)
        save_png(predictor.result(labels[0], pixels, None).label_image(), folder / "dense.png")

    def ours() -> None:
        pixels = read_image(path)
        dense = predictor.dense(pixels)
        dense = replace(dense, output=replace(dense.output, coarse=as_given))
        save_png(predictor.result(predictor.rendered_labels(dense), pixels, None).label_image(), folder / "ours.png")

    def network_eager() -> None:
        eager(network_input(read_image(path), input=spec.input, test=test).tensor)

    def network_ours() -> None:
        predictor.dense(read_image(path))

    functions = {
        "dense eager": reference, "pointrend": ours, "network, eager": network_eager, "network, ours": network_ours,
    }  # fmt: skip
    times = interleaved(functions, repeats=repeats, tick=tick)
    return Row(
        name=f"{MODEL} (new weights), {size[0]}x{size[1]} photo to label PNG",
        target=">= 2x",
        seconds={name: Spread.of(values) for name, values in times.items()},
        ratio=ratios(times, "dense eager", "pointrend"),
        notes={"engine": "torch"},
    )


@torch.inference_mode()
def many_row(folder: Path, *, count: int, repeats: int, tick: Callable[[], None]) -> Row:
    """Many photographs, as `pointrend predict` does them, against network and rendering alone."""
    model = load_model("people-lite0")
    assert isinstance(model, SemanticModel)
    predictor = SemanticPredictor(model)
    pixels = photo(1024, 768)
    paths = [folder / f"{index}.jpg" for index in range(count)]
    for path in paths:
        Image.fromarray(pixels).save(path, quality=92)

    def computing() -> None:
        for _ in paths:
            predictor.rendered_labels(predictor.dense(pixels))

    def compute(path: Path, read: object) -> Callable[[], object]:
        result = predictor.predict(pixels, path)
        return lambda: (result.save(folder / "out"), result.summary())

    def predicting() -> None:
        for _ in overlapped(paths, read_image, compute):
            pass

    times = interleaved(
        {"network and rendering": computing, "pointrend predict": predicting}, repeats=repeats, tick=tick
    )
    return Row(
        name=f"pointrend predict, {count} photos of 1024x768, people-lite0",
        target="<= 1.1x network and rendering",
        seconds={name: Spread.of(values) for name, values in times.items()},
        notes={
            "times network and rendering": round(ratios(times, "pointrend predict", "network and rendering").median, 3)
        },
    )
