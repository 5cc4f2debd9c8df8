"""Instance models against references: detectron2's PointRend on Mask R-CNN.

A reference is a `.npz` of `height`, `width` and `seed`, which make its image (see `reference_image`), and `p2`, the
first channels of the pyramid's finest map; `rpn_objectness_p4`, `rpn_deltas_p4`; the first `proposals` with
`proposal_logits`; for given `boxes` and `classes` the `class_logits` and `box_deltas` (the background last, and
without a box), and `coarse_masks` and `mask_probs` of the given class; and `det_boxes`, `det_scores`, `det_classes` of
the whole model at score threshold 0.02 and 30 detections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import ops

from pointrend.inputs import network_input
from pointrend.models.detector import Detections
from pointrend.verify.check import Check, ReferenceFileError, compare, reference_image
from pointrend.zoo import InstanceModel

NUMBERS = ("height", "width", "seed")
# Shapes; letters are sizes that must agree within a reference.
TENSORS: dict[str, tuple[str | int, ...]] = {
    "p2": ("D", "h", "w"),
    "rpn_objectness_p4": ("A", "h4", "w4"),
    "rpn_deltas_p4": ("B", "h4", "w4"),
    "proposals": ("P", 4),
    "proposal_logits": ("P",),
    "boxes": ("R", 4),
    "classes": ("R",),
    "class_logits": ("R", "K"),
    "box_deltas": ("R", "L"),
    "coarse_masks": ("R", "m", "m"),
    "mask_probs": ("R", "M", "M"),
    "det_boxes": ("Q", 4),
    "det_scores": ("Q",),
    "det_classes": ("Q",),
}
RELATIVE = 1e-4
"""Of the reference's standard deviation."""
PROBABILITY = 1e-3
PIXELS = 0.005
"""Of the pixels of masks, that may differ by more: of two equally uncertain points either may be chosen."""
MATCH_IOU = 0.95
SCORE = 2e-3
UNMATCHED = 0.05
"""Of proposals and detections, that may have no partner."""
SCORE_THRESHOLD, MAX_DETECTIONS = 0.02, 30


@dataclass(frozen=True)
class InstanceReference:
    """What another implementation computed; see the module."""

    height: int
    width: int
    seed: int
    tensors: Mapping[str, Tensor]


def parse_instance_reference(path: Path, arrays: Mapping[str, np.ndarray]) -> InstanceReference:
    """The reference in a file's arrays.

    Raises:
        ReferenceFileError: it is none.
    """
    if missing := [name for name in (*NUMBERS, *TENSORS) if name not in arrays]:
        raise ReferenceFileError(f"{path}: not a reference of an instance model: it has no {missing[0]!r}")
    if unknown := sorted(set(arrays) - set(NUMBERS) - set(TENSORS)):
        raise ReferenceFileError(f"{path}: the tensor {unknown[0][:100]!r} is unknown; known are {', '.join(TENSORS)}")
    sizes: dict[str, int] = {}
    for name, shape in TENSORS.items():
        array = arrays[name]
        if array.ndim != len(shape) or any(
            (sizes.setdefault(s, n) if isinstance(s, str) else s) != n for s, n in zip(shape, array.shape, strict=True)
        ):
            raise ReferenceFileError(f"{path}: {name} must be ({', '.join(map(str, shape))}), got {array.shape}")
        kinds = "iu" if name.endswith("classes") else "f"
        if array.dtype.kind not in kinds or array.size == 0 or not np.isfinite(array).all():
            raise ReferenceFileError(f"{path}: {name} must be finite numbers, got {array.size} of {array.dtype}")
    values = [arrays[name] for name in NUMBERS]
    if any(value.shape != () or value.dtype.kind not in "iu" or value < 0 for value in values):
        raise ReferenceFileError(f"{path}: {', '.join(NUMBERS)} must be whole numbers")
    height, width, seed = (int(value) for value in values)
    if not (1 < height <= 8192 and 1 < width <= 8192 and seed < 2**32):
        raise ReferenceFileError(f"{path}: {height} x {width} or seed {seed} is out of range")
    tensors = {
        name: torch.from_numpy(arrays[name].astype(np.int64 if name.endswith("classes") else np.float32))
        for name in TENSORS
    }
    return InstanceReference(height, width, seed, tensors)


@torch.inference_mode()
def verify_instances(model: InstanceModel, reference: InstanceReference) -> list[Check]:
    """Compare what `model` computes on the reference's image to the reference, in the order of computation.

    Raises:
        ReferenceFileError: a tensor of the reference has another shape than the model's.
    """
    network, test, wanted = model.network.eval(), model.spec.test, reference.tensors
    pixels = reference_image(reference.height, reference.width, reference.seed)
    # As it is, not resized.
    sides = {"scale": 1.0, "longest": max(pixels.shape[:2])}
    made = network_input(pixels, input=model.spec.input, test=test.model_copy(update=sides))
    device = next(network.parameters()).device
    output = network(
        made.tensor.to(device),
        [made.valid],
        proposals_per_level=test.proposals_per_level,
        max_proposals=test.max_proposals,
        proposal_nms=test.proposal_nms,
        nms=test.nms,
        score_threshold=SCORE_THRESHOLD,
        max_detections=MAX_DETECTIONS,
    )
    features = output.features
    raw = network.rpn.raw(features.pyramid)
    (proposals,) = network.rpn.proposals(
        raw, features.valid, per_level=test.proposals_per_level, total=test.max_proposals, nms=test.proposal_nms
    )
    boxes, classes = wanted["boxes"].to(device), wanted["classes"].to(device)
    if int(classes.max()) >= model.spec.architecture.num_classes or int(classes.min()) < 0:
        raise ReferenceFileError(f"classes go up to {int(classes.max())}: the reference is of another model")
    told = network.boxes(features, [boxes])
    stages = network.mask_head.render(
        features.fine,
        [boxes],
        classes,
        features.size,
        start=test.start,
        num_points=test.num_points,
        steps=test.steps,
    )
    found = {
        "p2": features.pyramid[0][0, : len(wanted["p2"])],
        "rpn_objectness_p4": raw.objectness[2][0],
        "rpn_deltas_p4": raw.deltas[2][0],
        # The background is the reference's last class, and has no box there.
        "class_logits": told.class_logits.roll(-1, dims=1),
        "box_deltas": told.deltas[:, 4:],
        "coarse_masks": stages[0][:, 0],
        "mask_probs": stages[-1][:, 0].sigmoid(),
    }
    checks = {name: _check(name, tensor.cpu(), wanted[name]) for name, tensor in found.items()}
    # What was proposed best, in any order, among all that was proposed.
    checks["proposals"] = _matched("proposals", proposals.boxes.cpu(), wanted["proposals"])
    checks["detections"] = _detections(output.detections[0], wanted)
    order = ["p2", "rpn_objectness_p4", "rpn_deltas_p4", "proposals", "class_logits", "box_deltas", "coarse_masks"]
    return [checks[name] for name in (*order, "mask_probs", "detections")]


def _check(name: str, found: Tensor, expected: Tensor) -> Check:
    if found.shape != expected.shape:
        raise ReferenceFileError(
            f"{name} is {tuple(expected.shape)} in the reference, the model gives {tuple(found.shape)}: "
            "the reference is of another model"
        )
    if name != "mask_probs":
        return compare(name, found, expected, tolerance=RELATIVE)
    difference = (found.double() - expected.double()).abs()
    above = ~(difference <= PROBABILITY)
    return Check(name, float(difference.max()), PROBABILITY, float(above.double().mean()), PIXELS)


def _detections(found: Detections, wanted: Mapping[str, Tensor]) -> Check:
    return _matched(
        "detections",
        found.boxes.cpu(),
        wanted["det_boxes"],
        classes=(found.classes.cpu(), wanted["det_classes"]),
        scores=(found.scores.cpu(), wanted["det_scores"]),
    )


def _matched(
    name: str,
    found: Tensor,
    expected: Tensor,
    *,
    classes: tuple[Tensor, Tensor] | None = None,
    scores: tuple[Tensor, Tensor] | None = None,
) -> Check:
    """How many expected boxes have a partner of their own; the difference is the partners' largest in score."""
    free = torch.ones(len(found), dtype=torch.bool)
    overlap = ops.box_iou(expected, found)
    unmatched, largest = 0, 0.0
    for index in range(len(expected)):
        fits = free & (overlap[index] >= MATCH_IOU)
        if classes is not None:
            fits &= classes[0] == classes[1][index]
        if scores is not None:
            apart = (scores[0] - scores[1][index]).abs()
            fits &= apart <= SCORE
        if not bool(fits.any()):
            unmatched += 1
            continue
        partner = int(torch.where(fits, overlap[index], -1.0).argmax())
        free[partner] = False
        if scores is not None:
            largest = max(largest, float(apart[partner]))
    share = unmatched / max(1, len(expected))
    return Check(name, largest, SCORE, share, UNMATCHED, counted="unmatched")
