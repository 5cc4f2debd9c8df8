"""Whole predictions, from a file to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from benchmarks.dense import dense_labels
from benchmarks.inputs import MakeLogits, photo
from benchmarks.rows import Row
from pointrend.data.images import read_image
from pointrend.files import write_atomically
from pointrend.inputs import network_input
from pointrend.models import SemanticOutput, SemanticPointRend
from pointrend.overlap import overlapped
from pointrend.predict import SemanticPredictor
from pointrend.results import SemanticResult
from pointrend.results.files import png_bytes
from pointrend.timing import Spread, interleaved, ratios
from pointrend.zoo import Model, load_model
from pointrend.zoo.engines import Engine, Precision, installed_engines, with_engine
from pointrend.zoo.manifest import PUBLISHED
from pointrend.zoo.modelfile import network_of

MODEL = "mmseg-r50-cityscapes"

ENGINES: tuple[tuple[Engine, Precision], ...] = (
    ("torch", "float32"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("onnxruntime", "float32"),
)


@torch.inference_mode()
def street_row(
    make_logits: MakeLogits, folder: Path, *, size: tuple[int, int], repeats: int, tick: Callable[[], None]
) -> Row:
    """A published architecture with new weights, from a photograph to its labels as PNG, by each engine.

    New weights make labels that no photograph has, so all renderings get realistic coarse logits instead.
    """
    torch.manual_seed(0)
    spec = PUBLISHED[MODEL].spec
    eager = network_of(spec).eval()
    assert isinstance(eager, SemanticPointRend)
    model = Model(eager, spec)
    path = folder / "street.jpg"
    Image.fromarray(photo(*size)).save(path, quality=92)
    predictors: dict[str, SemanticPredictor] = {}
    with _cache_in(folder):  # what engines make of new weights is of no use to anybody
        for engine, precision in ENGINES:
            if engine in installed_engines():
                name = engine if precision == "float32" else f"{engine} {precision}"
                predictors[name] = _predictor(with_engine(model, engine, precision=precision))
    sample = predictors["torch"].encode(read_image(path))
    coarse = make_logits(spec.num_logits, sample.output.coarse.shape[2], sample.output.coarse.shape[3])
    as_given = coarse.contiguous(memory_format=torch.channels_last)
    test = predictors["torch"].test

    def reference() -> None:
        pixels = read_image(path)
        output: SemanticOutput = eager(network_input(pixels, input=spec.input, test=test)[0])
        labels = dense_labels(coarse, output.fine[0], eager.point_head, test.subdivision)
        _save(predictors["torch"].result(labels[0], pixels, None), folder / "dense.png")

    def ours(predictor: SemanticPredictor) -> None:
        pixels = read_image(path)
        encoded = predictor.encode(pixels)
        encoded = replace(encoded, output=replace(encoded.output, coarse=as_given))
        _save(predictor.result(predictor.rendered_labels(encoded), pixels, None), folder / "ours.png")

    def network_eager() -> None:
        eager(network_input(read_image(path), input=spec.input, test=test)[0])

    functions: dict[str, Callable[[], object]] = {"dense eager": reference, "its network alone": network_eager}
    functions |= {name: partial(ours, predictor) for name, predictor in predictors.items()}
    times = interleaved(functions, repeats=repeats, tick=tick)
    fastest = {name: ratios(times, "dense eager", name) for name in predictors}
    best = max((name for name in fastest if "bfloat16" not in name), key=lambda name: fastest[name].median)
    return Row(
        name=f"{MODEL} (new weights), {size[0]}x{size[1]} photo to label PNG",
        target=">= 2x",
        seconds={name: Spread.of(values) for name, values in times.items()},
        ratio=fastest[best],
        notes={
            "ratio of": best,
            **{f"{name}, times as fast": round(fastest[name].median, 2) for name in fastest if name != best},
        },
    )


def _predictor(model: Model) -> SemanticPredictor:
    predictor = model.predictor()
    assert isinstance(predictor, SemanticPredictor)
    return predictor


def _save(result: SemanticResult, path: Path) -> None:
    write_atomically(path, png_bytes(result.label_image()))


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("POINTREND_HOME")
    os.environ["POINTREND_HOME"] = str(folder / "home")
    try:
        yield
    finally:
        del os.environ["POINTREND_HOME"]
        if before is not None:
            os.environ["POINTREND_HOME"] = before


@torch.inference_mode()
def many_row(folder: Path, *, count: int, repeats: int, tick: Callable[[], None]) -> Row:
    """Many photographs, as `pointrend predict` does them, against network and rendering alone."""
    predictor = _predictor(load_model("people-lite0"))
    pixels = photo(1024, 768)
    paths = [folder / f"{index}.jpg" for index in range(count)]
    for path in paths:
        Image.fromarray(pixels).save(path, quality=92)

    def computing() -> None:
        for _ in paths:
            predictor.rendered_labels(predictor.encode(pixels))

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
