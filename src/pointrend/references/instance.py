"""Compare instance models with references of detectron2's PointRend on Mask R-CNN.

Tensors: `p2`, the first channels of the pyramid's finest map; `rpn_objectness_p4`, `rpn_deltas_p4`; the first
`proposals` with `proposal_logits`; for given `boxes` and `classes` the `class_logits` and `box_deltas` (the background
last, and without a box), and `coarse_masks` and `mask_probs` of the given class; and `det_boxes`, `det_scores`,
`det_classes`, the whole model's detections with the settings `DETECTION`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision import ops

from pointrend.models import InstancePointRend
from pointrend.references.base import Check, Reference, ReferenceFileError, compare, of_another_model
from pointrend.spec import InstanceSpec

# Shapes by name; letters are sizes that must agree within a reference.
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
"""Tolerance of a tensor, relative to the reference's standard deviation."""
PROBABILITY = 1e-3
"""Tolerance of a mask's probabilities."""
PIXELS = 0.005
"""Ratio of a mask's pixels that may differ by more: of two equally uncertain points either one may be chosen."""
MATCH_IOU = 0.95
SCORE = 2e-3
UNMATCHED = 0.05
"""Ratio of proposals and detections that may have no partner."""
DETECTION = {"score_threshold": 0.02, "max_detections": 30}
"""Settings of the reference's detections."""


class InstanceReference(Reference):
    """A reference of an instance model; see the module."""

    task = "instance"
    does = "finds instances"
    numbers = ("height", "width", "seed")
    names = required = tuple(TENSORS)

    @classmethod
    def recognises(cls, arrays: Mapping[str, np.ndarray]) -> bool:
        """Return whether the file has boxes."""
        return "boxes" in arrays or "det_boxes" in arrays

    @classmethod
    def _tensors(cls, path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        sizes: dict[str, int] = {}
        for name, shape in TENSORS.items():
            array = arrays[name]
            if array.ndim != len(shape) or any(
                (sizes.setdefault(s, n) if isinstance(s, str) else s) != n
                for s, n in zip(shape, array.shape, strict=True)
            ):
                raise ReferenceFileError(f"{path}: {name} must be ({', '.join(map(str, shape))}), got {array.shape}")
            kinds = "iu" if name.endswith("classes") else "f"
            if array.dtype.kind not in kinds or array.size == 0 or not np.isfinite(array).all():
                raise ReferenceFileError(f"{path}: {name} must be finite numbers, got {array.size} of {array.dtype}")
        return {
            name: torch.from_numpy(arrays[name].astype(np.int64 if name.endswith("classes") else np.float32))
            for name in TENSORS
        }

    @torch.inference_mode()
    def checks(self, network: InstancePointRend, spec: InstanceSpec) -> list[Check]:
        """Compare all tensors; see `Reference.checks`."""
        network, wanted = network.eval(), self.tensors
        images, frame = self.network_input(spec)
        device = next(network.parameters()).device
        detection = spec.test.detection.model_copy(update=DETECTION)
        output = network(images.to(device), [frame.valid], detection)
        features = output.features
        raw = network.rpn.raw(features.pyramid)
        (proposals,) = network.rpn.proposals(
            raw,
            features.valid,
            per_level=detection.proposals_per_level,
            total=detection.max_proposals,
            nms=detection.proposal_nms,
        )
        boxes, classes = wanted["boxes"].to(device), wanted["classes"].to(device)
        if int(classes.max()) >= spec.num_logits or int(classes.min()) < 0:
            raise ReferenceFileError(f"classes go up to {int(classes.max())}: the reference is of another model")
        regions = network.boxes(features, [boxes])
        stages = network.mask_head.render(features.fine, [boxes], classes, features.size, spec.test.subdivision)
        (detected,) = output.detections
        first = {
            "p2": features.pyramid[0][0, : len(wanted["p2"])],
            "rpn_objectness_p4": raw.objectness[2][0],
            "rpn_deltas_p4": raw.deltas[2][0],
        }
        second = {
            # The background is the reference's last class, and has no box there.
            "class_logits": regions.class_logits.roll(-1, dims=1),
            "box_deltas": regions.deltas[:, 4:],
            "coarse_masks": stages[0][:, 0],
            "mask_probs": stages[-1][:, 0].sigmoid(),
        }
        return [
            *(_check(name, tensor.cpu(), wanted[name]) for name, tensor in first.items()),
            _matched("proposals", proposals.boxes.cpu(), wanted["proposals"]),
            *(_check(name, tensor.cpu(), wanted[name]) for name, tensor in second.items()),
            _matched(
                "detections",
                detected.boxes.cpu(),
                wanted["det_boxes"],
                allowed=wanted["det_classes"][:, None] == detected.classes.cpu(),
                apart=(wanted["det_scores"][:, None] - detected.scores.cpu()).abs(),
            ),
        ]


def _check(name: str, found: Tensor, expected: Tensor) -> Check:
    if found.shape != expected.shape:
        raise of_another_model(name, expected, found)
    if name != "mask_probs":
        return compare(name, found, expected, tolerance=RELATIVE)
    difference = (found.double() - expected.double()).abs()
    above = ~(difference <= PROBABILITY)
    return Check(name, float(difference.max()), PROBABILITY, float(above.double().mean()), PIXELS)


def _matched(
    name: str, found: Tensor, expected: Tensor, *, allowed: Tensor | None = None, apart: Tensor | None = None
) -> Check:
    """Count the expected boxes (E, 4) without a partner of their own among the found ones (F, 4), in any order.

    Args:
        name: of the check.
        found: boxes of the network.
        expected: boxes of the reference, best first.
        allowed: (E, F) bool, which pairs may be partners.
        apart: (E, F), differences of scores; the largest one of partners is the check's difference.
    """
    overlap = ops.box_iou(expected, found)
    apart = torch.zeros_like(overlap) if apart is None else apart
    fitting = (overlap >= MATCH_IOU) & (apart <= SCORE)
    if allowed is not None:
        fitting &= allowed
    free = torch.ones(len(found), dtype=torch.bool)
    unmatched, largest = 0, 0.0
    for index in range(len(expected)):
        fits = free & fitting[index]
        if not bool(fits.any()):
            unmatched += 1
            continue
        partner = int(torch.where(fits, overlap[index], -1.0).argmax())
        free[partner] = False
        largest = max(largest, float(apart[index, partner]))
    return Check(name, largest, SCORE, unmatched / max(1, len(expected)), UNMATCHED, counted="unmatched")
