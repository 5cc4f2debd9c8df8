"""Compare semantic models with references of mmsegmentation and detectron2.

Tensors: the first channels of `c2` and `c5`, the backbone's first and last map, and of `p2`, the pyramid's first map;
`coarse`, the coarse logits; `logits`, after subdivision with `num_points` a step and resized to the network's input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.models import SemanticPointRend
from pointrend.references.base import Check, Reference, ReferenceFileError, compare, of_another_model, tensor_of
from pointrend.spec import SemanticSpec

# Relative to the reference's standard deviation.
TOLERANCES = {"c2": 1e-4, "c5": 1e-4, "p2": 1e-4, "coarse": 1e-4, "logits": 1e-3}
ALLOWED_RATIO = 0.005
"""Ratio of pixels of `logits` that may differ: of two points that are equally uncertain in float precision, either one
may be chosen."""


class SemanticReference(Reference):
    """A reference of a semantic model; see the module."""

    task = "semantic"
    does = "labels pixels"
    numbers = ("height", "width", "seed", "num_points")
    names = tuple(TOLERANCES)

    @classmethod
    def recognises(cls, arrays: Mapping[str, np.ndarray]) -> bool:
        """Return True: files that no other task recognises come from a semantic model."""
        return True

    @classmethod
    def _tensors(cls, path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        tensors = {name: arrays[name] for name in TOLERANCES if name in arrays}
        if not tensors:
            raise ReferenceFileError(f"{path}: expected at least one of the tensors {', '.join(TOLERANCES)}")
        for name, array in tensors.items():
            if array.ndim != 3 or array.dtype.kind != "f" or array.size < 2 or not tensor_of(array).isfinite().all():
                raise ReferenceFileError(
                    f"{path}: {name} must be finite floats (C, H, W), got {array.shape} {array.dtype}"
                )
        return {name: tensor_of(array) for name, array in tensors.items()}

    def checks(self, network: SemanticPointRend, spec: SemanticSpec) -> list[Check]:
        """Compare all tensors that the reference has; see `Reference.checks`."""
        found = compute(network, spec, self)
        return [_check(name, found[name], expected) for name, expected in self.tensors.items()]


@torch.inference_mode()
def compute(network: SemanticPointRend, spec: SemanticSpec, reference: Reference) -> dict[str, Tensor]:
    """Return all tensors (C, H, W) that a reference may have, computed on its image."""
    images, _ = reference.network_input(spec)
    images = images.to(next(network.parameters()).device)
    maps: list[tuple[Tensor, ...]] = []
    hook = network.backbone.register_forward_hook(lambda module, inputs, output: maps.append(output))
    try:
        output = network.eval()(images)
    finally:
        hook.remove()
    logits = network.render(output, replace(spec.test.subdivision, num_points=reference.num_points))
    logits = F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)
    found = {"c2": maps[0][-4], "c5": maps[0][-1], "p2": output.fine[0], "coarse": output.coarse, "logits": logits}
    return {name: tensor[0].cpu() for name, tensor in found.items()}


def _check(name: str, found: Tensor, expected: Tensor) -> Check:
    whole = name in ("coarse", "logits")  # of the others, the first channels
    part = found if whole else found[: len(expected)]
    if expected.shape != part.shape:
        raise of_another_model(name, expected, found)
    ratio = ALLOWED_RATIO if name == "logits" else 0.0
    return compare(name, part, expected, tolerance=TOLERANCES[name], allowed_ratio=ratio)
