"""Whether a model computes what a reference says: numbers of other implementations, tensor by tensor.

A reference is a `.npz` of `height`, `width` and `seed`, which make its image (see `reference_image`), `num_points` of
each subdivision step, and tensors without a batch dimension: `c2` and `c5`, the backbone's first and last map, `p2`,
the pyramid's first, of each the first few channels; `coarse`, the coarse logits; `logits`, after subdivision and
resized to the network's input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.inputs import network_input
from pointrend.verify.check import Check, ReferenceFileError, compare, reference_image
from pointrend.zoo import SemanticModel

NUMBERS = ("height", "width", "seed", "num_points")
# Relative to the reference's standard deviation.
TOLERANCES = {"c2": 1e-4, "c5": 1e-4, "p2": 1e-4, "coarse": 1e-4, "logits": 1e-3}
ALLOWED_SHARE = 0.005
"""Of the pixels of `logits`: where two uncertainties are equal to float precision, either point may be chosen."""


@dataclass(frozen=True)
class Reference:
    """What another implementation computed; see the module."""

    height: int
    width: int
    seed: int
    num_points: int
    tensors: Mapping[str, Tensor]


def parse_reference(path: Path, arrays: Mapping[str, np.ndarray]) -> Reference:
    """The reference in a file's arrays.

    Raises:
        ReferenceFileError: it is none.
    """
    if missing := [name for name in NUMBERS if name not in arrays]:
        raise ReferenceFileError(f"{path}: not a reference: it has no {missing[0]!r}")
    if unknown := sorted(set(arrays) - set(NUMBERS) - set(TOLERANCES)):
        raise ReferenceFileError(
            f"{path}: the tensor {unknown[0][:100]!r} is unknown; known are {', '.join(TOLERANCES)}"
        )
    tensors = {name: arrays[name] for name in TOLERANCES if name in arrays}
    if not tensors:
        raise ReferenceFileError(f"{path}: it has none of the tensors {', '.join(TOLERANCES)}")
    for name, array in tensors.items():
        if array.ndim != 3 or array.dtype.kind != "f" or array.size < 2 or not tensor_of(array).isfinite().all():
            raise ReferenceFileError(f"{path}: {name} must be finite floats (C, H, W), got {array.shape} {array.dtype}")
    values = [arrays[name] for name in NUMBERS]
    if any(value.shape != () or value.dtype.kind not in "iu" or value < 0 for value in values):
        raise ReferenceFileError(f"{path}: {', '.join(NUMBERS)} must be whole numbers")
    height, width, seed, num_points = (int(value) for value in values)
    if not (1 < height <= 8192 and 1 < width <= 8192 and num_points > 0 and seed < 2**32):
        raise ReferenceFileError(f"{path}: {height} x {width}, seed {seed} or {num_points} points is out of range")
    return Reference(height, width, seed, num_points, {name: tensor_of(a) for name, a in tensors.items()})


def tensor_of(array: np.ndarray) -> Tensor:
    # PyTorch knows neither long doubles nor foreign byte orders.
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32 if array.itemsize <= 4 else np.float64))


@torch.inference_mode()
def compute(model: SemanticModel, reference: Reference) -> dict[str, Tensor]:
    """All tensors (C, H, W) that a reference may have, of this model on the reference's image."""
    pixels = reference_image(reference.height, reference.width, reference.seed)
    sides = {"shortest": min(pixels.shape[:2]), "longest": max(pixels.shape[:2])}  # as it is, not resized
    made = network_input(pixels, input=model.spec.input, test=model.spec.test.model_copy(update=sides))
    device = next(model.network.parameters()).device
    images = made.tensor.to(device)
    maps: list[tuple[Tensor, ...]] = []
    hook = model.network.backbone.register_forward_hook(lambda module, inputs, output: maps.append(output))
    try:
        output = model.network.eval()(images)
    finally:
        hook.remove()
    logits = model.network.render(output, num_points=reference.num_points, steps=model.spec.test.steps)
    logits = F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)
    found = {"c2": maps[0][-4], "c5": maps[0][-1], "p2": output.fine[0], "coarse": output.coarse, "logits": logits}
    return {name: tensor[0].cpu() for name, tensor in found.items()}


def verify_semantic(model: SemanticModel, reference: Reference) -> list[Check]:
    """Compare what `model` computes on the reference's image to the reference, in the order of computation.

    Raises:
        ReferenceFileError: a tensor of the reference has another shape than the model's.
    """
    found = compute(model, reference)
    return [_check(name, found[name], expected) for name, expected in reference.tensors.items()]


def _check(name: str, found: Tensor, expected: Tensor) -> Check:
    whole = name in ("coarse", "logits")  # of the others, the first channels
    if (
        expected.shape[1:] != found.shape[1:]
        or expected.shape[0] > found.shape[0]
        or (whole and expected.shape[0] != found.shape[0])
    ):
        raise ReferenceFileError(
            f"{name} is {tuple(expected.shape)} in the reference, the model gives {tuple(found.shape)}: "
            "the reference is of another model"
        )
    share = ALLOWED_SHARE if name == "logits" else 0.0
    return compare(name, found[: expected.shape[0]], expected, tolerance=TOLERANCES[name], allowed_share=share)
