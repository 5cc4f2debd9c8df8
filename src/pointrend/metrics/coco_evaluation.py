"""COCO's matching and accumulation: from instances to arrays of precision and recall.

Shapes: T IoU thresholds, Q recall thresholds, C classes, A area ranges, M limits of detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pointrend.metrics.instances import ImageInstances

AREAS = ("all", "small", "medium", "large")
"""What the axis A stands for: small is under 32² pixels, large over 96²."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Precision and recall as fractions; nan where there was nothing to find."""

    precision: np.ndarray
    """(T, Q, C, A, M), interpolated: the best precision at this recall or a higher one."""
    recall: np.ndarray
    """(T, C, A, M), the highest recall."""
    thresholds: np.ndarray
    """(T,) IoU: 0.5, 0.55, ... 0.95."""


@dataclass(frozen=True)
class Federated:
    """What LVIS says of the classes of an image beside its instances (Gupta et al., CVPR 2019, section 2)."""

    absent: tuple[int, ...] = ()
    """Classes looked for in the image and not found (`neg_category_ids`)."""
    incomplete: tuple[int, ...] = ()
    """Classes of which not all instances are annotated (`not_exhaustive_category_ids`)."""


def precision_recall(
    predictions: Sequence[ImageInstances],
    truths: Sequence[ImageInstances],
    *,
    num_classes: int,
    max_detections: Sequence[int],
    boxes: bool = False,
    boundary_share: float | None = None,
    federated: Sequence[Federated] | None = None,
) -> Curves:
    """Match detections to ground truth greedily by score, and accumulate over images in the order of their ids.

    Args:
        predictions, truths: of the same images in the same order.
        num_classes: C.
        max_detections: M rising limits, of detections of one class in an image.
        boxes: match boxes and not masks.
        boundary_share: match by the smaller one of mask IoU and Boundary IoU with bands of this share of the
            image's diagonal.
        federated: for LVIS, of each image: detections of classes that were not looked for are left out.

    Raises:
        ImportError: faster-coco-eval is not installed; says how to install it.
    """
    try:
        from pointrend.metrics import faster_coco
    except ImportError as error:
        raise ImportError("evaluation of instances needs faster-coco-eval: pip install 'pointrend[train]'") from error
    images: list[dict[str, Any]] = [
        {"id": image.image_id, "height": image.size[0], "width": image.size[1]} for image in truths
    ]
    for entry, classes in zip(images, federated or (), strict=federated is not None):
        entry |= {"neg_category_ids": list(classes.absent), "not_exhaustive_category_ids": list(classes.incomplete)}
    evaluation = faster_coco.evaluate(
        truths,
        predictions,
        images,
        num_classes=num_classes,
        boxes=boxes,
        boundary_share=boundary_share,
        lvis=federated is not None,
        max_detections=max_detections,
    )
    precision, recall = (np.asarray(evaluation.eval[name], dtype=np.float64) for name in ("precision", "recall"))
    # Where there is nothing to find it says -1.
    return Curves(
        precision=np.where(precision < 0, np.nan, precision),
        recall=np.where(recall < 0, np.nan, recall),
        thresholds=np.asarray(evaluation.params.iouThrs),
    )
