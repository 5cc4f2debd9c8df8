"""What is read: kinds of files, their whole contents, and the public functions that read them.

A case writes files to an empty folder and calls these functions; `error` tells whether an exception is a good answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image, features
from safetensors.torch import save

from pointrend.data import ensure_sound, find_samples
from pointrend.data.exports import FORMATS as EXPORTED
from pointrend.data.exports import detected
from pointrend.data.images import image_size, probe_image, read_ids, read_image, read_labels
from pointrend.errors import PointRendError
from pointrend.evaluation import evaluate_results
from pointrend.models import PointArchitecture, SemanticArchitecture
from pointrend.spec import ModelSpec, SemanticSpec
from pointrend.training.checkpoint import load_checkpoint
from pointrend.training.recipe import load_recipe, recipe_names
from pointrend.zoo import Model, load_model
from pointrend.zoo.manifest import PUBLISHED
from pointrend.zoo.modelfile import METADATA_KEY, network_of
from pointrend.zoo.reading import read_tensors
from tests.fuzz.mutate import altered, damaged, json_bytes

Case = Callable[[Path, random.Random], None]
"""Writes a damaged file into a folder and reads it."""
MAX_MESSAGE = 1000
"""Maximum length of a message, without the names of folders."""


def problem(error: BaseException, folder: Path) -> str | None:
    """Return what is wrong with an exception as an answer to a user; None if nothing is."""
    if not isinstance(error, PointRendError):
        return f"{type(error).__name__}: {str(error)[:300]}"
    message = str(error)
    short = message.replace(str(folder), "")
    if len(short) == len(message):
        return f"the message does not name the file: {message[:300]!r}"
    if len(short) > MAX_MESSAGE:
        return f"a message of {len(short)} characters: {short[:200]!r}"
    lines = short.splitlines() if getattr(error, "many_lines", False) or "\n  " in short else [short]
    if not all(line.isprintable() for line in lines):
        return f"a message with control characters: {short[:300]!r}"
    return None


class Failed(Exception):
    """A public function gave a bad answer."""


def answer(folder: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, and return what it returns; None after an error that is a good answer."""
    try:
        return function(*arguments)
    except Exception as error:
        if found := problem(error, folder):
            name = getattr(function, "__qualname__", str(function))
            raise Failed(f"{name}: {found}") from error
        return None


# Images: every mode in every format that Pillow writes here.
FORMATS: dict[str, tuple[str, tuple[str, ...], tuple[dict[str, Any], ...]]] = {
    "PNG": (".png", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), ({}, {"interlace": True})),
    "JPEG": (".jpg", ("L", "RGB", "CMYK"), ({}, {"progressive": True}, {"subsampling": 0})),
    "TIFF": (
        ".tif",
        ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "LAB"),
        tuple(
            {"compression": c} for c in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "group4")
        ),
    ),
    "WEBP": (".webp", ("RGB", "RGBA"), ({}, {"lossless": True})),
    "GIF": (".gif", ("1", "L", "P", "RGB"), ({}, {"save_all": True})),
    "BMP": (".bmp", ("1", "L", "P", "RGB"), ({},)),
    "AVIF": (".avif", ("RGB", "RGBA"), ({"quality": 50, "speed": 10},)),
    "JPEG2000": (".jp2", ("L", "RGB", "RGBA"), ({},)),
    "PPM": (".ppm", ("1", "L", "RGB", "I;16"), ({},)),
    "TGA": (".tga", ("L", "P", "RGB", "RGBA"), ({}, {"compression": "tga_rle"})),
    "MPO": (".mpo", ("RGB",), ({},)),
    "ICO": (".png", ("RGBA",), ({},)),
    "SGI": (".bmp", ("L", "RGB"), ({},)),
    "PCX": (".bmp", ("1", "L", "P", "RGB"), ({},)),
    "DDS": (".bmp", ("RGB", "RGBA"), ({},)),
}


@cache
def images() -> list[tuple[str, bytes]]:
    """Suffix and bytes of whole images."""
    Image.init()
    found = []
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (23, 31, 3), dtype=np.uint8))
    for kind, (suffix, modes, options) in FORMATS.items():
        if kind not in Image.SAVE or (kind == "AVIF" and not features.check("avif")):
            continue
        for mode in modes:
            grey = rgb.convert("L")
            image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else None
            if image is None:
                with contextlib.suppress(ValueError):
                    image = rgb.convert(mode)
            for option in options:
                buffer = io.BytesIO()
                with contextlib.suppress(Exception):  # not every mode goes with every option
                    assert image is not None
                    image.save(buffer, kind, **option)
                    found.append((suffix, buffer.getvalue()))
    return found


def image(folder: Path, rng: random.Random) -> None:
    """An image, read in every way."""
    suffix, content = rng.choice(images())
    path = folder / f"a{suffix}"
    path.write_bytes(damaged(content, rng))
    for read in (read_image, read_labels, read_ids, image_size, probe_image):
        answer(folder, read, path)


def png(folder: Path, name: str, *, size: int = 24, mode: str = "RGB") -> None:
    """A whole image of a data set."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size, size, 3), np.uint8) if mode == "RGB" else np.zeros((size, size), np.uint8)
    Image.fromarray(pixels).save(folder / name)


COCO: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.png", "height": 24, "width": 24} for i in (1, 2)],
    "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "area": 64.0, "bbox": [2, 2, 8, 8],
         "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10]]},
        {"id": 2, "image_id": 1, "category_id": 7, "iscrowd": 1, "area": 50, "bbox": [0, 0, 24, 24],
         "segmentation": {"size": [24, 24], "counts": [100, 50, 426]}},
        {"id": 3, "image_id": 2, "category_id": 7, "iscrowd": 0, "area": 9, "bbox": [1, 1, 3, 3],
         "segmentation": {"size": [24, 24], "counts": "c0"}},
    ],
}  # fmt: skip
RESULTS: list[dict[str, Any]] = [
    {"image_id": 1, "category_id": 3, "score": 0.9, "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10]]},
    {"image_id": 2, "category_id": 7, "score": 0.5, "bbox": [1, 1, 3, 3],
     "segmentation": {"size": [24, 24], "counts": [25, 3, 548]}},
]  # fmt: skip


def _coco(folder: Path, annotations: bytes, results: bytes) -> None:
    for index in (1, 2):
        png(folder, f"images/{index}.png")
    (folder / "annotations").mkdir()
    (folder / "annotations/instances_val.json").write_bytes(annotations)
    (folder / "results.json").write_bytes(results)
    samples = answer(folder, find_samples, folder)
    if samples is None:
        return
    for sample in samples.samples:
        answer(folder, sample.annotations.truth, (24, 24))
    try:
        ensure_sound(samples)
    except Exception as error:
        if found := problem(error, folder):
            raise Failed(f"ensure_sound: {found}") from error
        return  # the commands end here
    answer(folder, evaluate_results, folder / "results.json", samples)


def coco(folder: Path, rng: random.Random) -> None:
    """An annotation file of COCO's format."""
    _coco(folder, json_bytes(COCO, rng), json.dumps(RESULTS).encode())


def results(folder: Path, rng: random.Random) -> None:
    """A file of COCO's results."""
    whole = {**COCO, "annotations": COCO["annotations"][:1]}
    _coco(folder, json.dumps(whole).encode(), json_bytes(RESULTS, rng))


CLASSES: list[Any] = ["background", {"name": "cat", "color": [1, 2, 3]}, {"name": "unsure", "ignore": True}]


def classes(folder: Path, rng: random.Random) -> None:
    """`classes.json` of a folder with label images."""
    png(folder, "images/a.png")
    png(folder, "labels/a.png", mode="L")
    (folder / "classes.json").write_bytes(json_bytes(CLASSES, rng))
    samples = answer(folder, find_samples, folder)
    if samples is not None:
        answer(folder, samples.samples[0].annotations.truth, (24, 24))


_BOX = [[2, 2], [10, 2], [10, 10], [2, 10]]
_MASK = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAAAAABX3VL4AAAAEElEQVR4nGP4z8DwHwwZGAAX6gP9Wv5vVAAAAABJRU5ErkJggg=="
LABELME: dict[str, Any] = {
    "shapes": [
        {"label": "cat", "points": _BOX, "group_id": 1, "shape_type": "polygon"},
        {"label": "dog", "points": _BOX[::2], "group_id": None, "shape_type": "rectangle"},
        {"label": "dog", "points": _BOX[::2], "group_id": None, "shape_type": "mask",
         "mask": _MASK},
    ],
    "imagePath": "images/a.png", "imageHeight": 24, "imageWidth": 24,
}  # fmt: skip
_SIZES = {"original_width": 24, "original_height": 24, "image_rotation": 0}
STUDIO: list[Any] = [
    {"id": 1, "data": {"image": "/data/upload/0a1b2c3d-a.png"}, "annotations": [{"was_cancelled": False, "result": [
        {"type": "polygonlabels", "value": {"points": _BOX, "polygonlabels": ["cat"]}, **_SIZES},
        {"type": "rectanglelabels", "value": {"x": 1, "y": 2, "width": 30, "height": 20, "rotation": 0,
                                              "rectanglelabels": ["dog"]}, **_SIZES},
        # 2304 values of 8 bits, in two runs of 2048 and 256.
        {"type": "brushlabels", "value": {"rle": [0, 0, 9, 0, 63, 255, 252, 7, 255, 255, 128, 31, 224, 0],
                                          "brushlabels": ["cat"]}, **_SIZES}]}]},
]  # fmt: skip
YOLO: dict[str, Any] = {"path": ".", "train": "images", "val": ["images"], "names": {"0": "cat", "1": "dog"}}
CVAT = b"""<?xml version="1.0"?><annotations><meta><task><labels><label><name>cat</name><color>#ff0000</color></label>
</labels></task></meta><image id="0" name="a.png" width="24" height="24"><polygon label="cat" z_order="1"
points="2,2;10,2;10,10;2,10"/><mask label="cat" rle="1, 2, 1" left="3" top="4" width="2" height="2"/><ellipse cx="5"
label="cat" cy="6" rx="2" ry="3" rotation="20"/></image></annotations>"""


def export(folder: Path, rng: random.Random) -> None:
    """What an annotation tool exports, read, and its masks decoded."""
    png(folder, "images/a.png")
    name = rng.choice(list(EXPORTED))
    if name == "cvat":
        (folder / "annotations.xml").write_bytes(damaged(CVAT, rng))
    elif name == "yolo":
        (folder / "labels").mkdir()
        line = b"0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0 0 1 0 1 1\n"
        (folder / "labels/a.txt").write_bytes(damaged(line, rng) if rng.random() < 0.5 else line)
        (folder / "data.yaml").write_bytes(json_bytes(YOLO, rng) if rng.random() < 0.5 else json.dumps(YOLO).encode())
    else:
        (folder / "a.json").write_bytes(json_bytes(LABELME if name == "labelme" else STUDIO, rng))
    read = answer(folder, EXPORTED[name].read, folder)
    answer(folder, detected, folder)
    for task in ("semantic", "instance"):
        for samples in (answer(folder, read.splits, task) or {}).values() if read else ():
            for sample in samples.samples:
                answer(folder, sample.annotations.truth, (24, 24))


def colors(folder: Path, rng: random.Random) -> None:
    """The colours of label images: `classes.json`, or `labelmap.txt`."""
    png(folder, "images/a.png")
    png(folder, "labels/a.png")
    listed = [{"name": "none", "color": [0, 0, 0]}, {"name": "cat", "color": [1, 2, 3]}, {"name": "x", "ignore": True}]
    if rng.random() < 0.5:
        (folder / "classes.json").write_bytes(json_bytes(listed, rng))
    else:
        (folder / "labelmap.txt").write_bytes(
            damaged(b"# label:color_rgb:parts:actions\nnone:0,0,0::\ncat:1,2,3::\n", rng)
        )
    samples = answer(folder, find_samples, folder)
    if samples is not None:
        answer(folder, samples.samples[0].annotations.truth, (24, 24))


@cache
def recipes() -> list[dict[str, Any]]:
    """All recipes with all settings."""
    return [load_recipe(name).model_dump(mode="json") for name in recipe_names()]


def recipe(folder: Path, rng: random.Random) -> None:
    """A recipe."""
    path = folder / "a.yaml"
    changed = altered(rng.choice(recipes()), rng)
    try:
        text = yaml.safe_dump(changed).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        text = json.dumps({"name": "x"}).encode()
    path.write_bytes(damaged(text, rng) if rng.random() < 0.5 else text)
    answer(folder, load_recipe, str(path))


@cache
def small_model() -> Model:
    """A model with few weights."""
    torch.manual_seed(0)
    architecture = SemanticArchitecture(
        backbone="test_resnet", fpn_channels=8, coarse_channels=8, point=PointArchitecture(hidden=8, depth=1)
    )
    spec = SemanticSpec(
        name="small", num_logits=150, architecture=architecture, classes=PUBLISHED["mmseg-r50-ade20k"].spec.classes
    )
    return Model(network_of(spec), spec).eval()


@cache
def weights() -> dict[str, torch.Tensor]:
    """Its weights."""
    return {name: value.contiguous() for name, value in small_model().network.state_dict().items()}


def spec(folder: Path, rng: random.Random) -> None:
    """The spec in the header of a model file."""
    specs: list[ModelSpec] = [small_model().spec, PUBLISHED["d2-rcnn-r50-cityscapes"].spec]
    text = json_bytes(json.loads(rng.choice(specs).model_dump_json()), rng).decode("utf-8", "replace")
    path = folder / "a.safetensors"
    path.write_bytes(save(weights(), {METADATA_KEY: text}))
    answer(folder, load_model, path)


@cache
def checkpoints() -> list[tuple[str, bytes]]:
    """Suffix and bytes of whole checkpoints."""
    tensors = dict(list(weights().items())[:12])
    arrays = {name: value.numpy() for name, value in tensors.items()}
    found = [(".safetensors", save(tensors)), (".safetensors", save(weights(), {METADATA_KEY: "{}"}))]
    found += [(".pkl", pickle.dumps({"model": arrays}, protocol=protocol)) for protocol in range(6)]
    for zipped in (True, False):
        for content in ({"state_dict": tensors, "meta": {"a": (1, 2.5, None)}}, {"version": 2, "network": tensors}):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
            found.append((".pth", buffer.getvalue()))
    return found


def checkpoint(folder: Path, rng: random.Random) -> None:
    """A checkpoint of other toolboxes, or of a training."""
    suffix, content = rng.choice(checkpoints())
    path = folder / f"a{suffix}"
    path.write_bytes(damaged(content, rng))
    for read in (read_tensors, load_model, load_checkpoint):
        answer(folder, read, path)


KINDS: dict[str, tuple[Case, int]] = {
    "image": (image, 3000),
    "coco": (coco, 700),
    "results": (results, 500),
    "classes": (classes, 300),
    "export": (export, 2000),
    "colors": (colors, 300),
    "recipe": (recipe, 500),
    "spec": (spec, 500),
    "checkpoint": (checkpoint, 400),
}
"""Every kind of case, and how many of it are tried by default."""


def run(kind: str, number: int, seed: int, folder: Path) -> str | None:
    """Try one case in an empty folder, and return what is wrong."""
    rng = random.Random(f"{seed} {kind} {number}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            KINDS[kind][0](folder, rng)
        except Failed as failure:
            return str(failure)
    return None
