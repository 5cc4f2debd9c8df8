"""Annotations of one image that are outlines of objects, painted into a label map.

Shapes: R objects, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torchvision import tv_tensors

from pointrend.data.annotations import OTHER_VALUES
from pointrend.data.classes import IGNORE, ClassInfo, named_classes
from pointrend.data.coco_annotations import CocoAnnotations
from pointrend.data.problems import ANNOTATION, DatasetError, Problem
from pointrend.data.samples import Annotations, Inspection

BACKGROUND = "background"


def painted(
    masks: Sequence[np.ndarray],
    labels: Sequence[int],
    crowd: Sequence[bool],
    size: tuple[int, int],
    layers: Sequence[int] | None = None,
) -> np.ndarray:
    """Paint objects into a label map (H, W) uint8 whose background is 0.

    Higher layers come over lower ones, and within a layer smaller objects over larger ones, so that the button of a
    coat is not lost; of equal ones the later. Crowds are ignored (255) where no object covers them.

    Args:
        masks: (H, W) bool, R of them.
        labels: the label of each object.
        crowd: whether each marks a region that is ignored.
        size: (H, W).
        layers: of each object; all in one by default.
    """
    result = np.zeros(size, np.uint8)
    areas = [int(mask.sum()) for mask in masks]
    depth = [0] * len(masks) if layers is None else layers
    for index in sorted(range(len(masks)), key=lambda i: (not crowd[i], depth[i], -areas[i], i)):
        result[masks[index]] = IGNORE if crowd[index] else labels[index]
    return result


def painted_classes(names: Sequence[str], colors: Sequence[tuple[int, int, int] | None] = ()) -> tuple[ClassInfo, ...]:
    """Return the classes of label maps in which objects of these categories are painted: the background, then they.

    A category that is called background itself is the background, and not listed again.

    Args:
        names: of the categories.
        colors: of the categories, None where it is generated; or nothing.

    Raises:
        DatasetError: there are more than 254, or a name comes twice or cannot be shown.
    """
    kept = [index for index, name in enumerate(names) if not _is_background(name)]
    if not kept:
        raise DatasetError("lists no category beside the background, so there is nothing to segment")
    if len(kept) >= IGNORE:
        raise DatasetError(
            f"at most {IGNORE - 1} categories fit into a label map, got {len(kept)}; segment instances instead"
        )
    classes = named_classes([BACKGROUND, *(names[index] for index in kept)])
    given = [None, *(colors[index] if colors else None for index in kept)]
    return tuple(
        info if color is None else replace(info, color=color) for info, color in zip(classes, given, strict=True)
    )


def painted_labels(names: Sequence[str]) -> tuple[int, ...]:
    """Return the label of each category in such a label map: 0 if it is the background, else 1, 2, ..."""
    labels, used = [], 0
    for name in names:
        used += not _is_background(name)
        labels.append(0 if _is_background(name) else used)
    return tuple(labels)


def _is_background(name: str) -> bool:
    return name.strip().strip("_").lower() == BACKGROUND


@dataclass(frozen=True, eq=False)
class PaintedObjects(Annotations):
    """The objects of an image as a label map, see `painted`."""

    objects: CocoAnnotations
    labels: tuple[int, ...]
    """The label of each category."""

    def read(self, size: tuple[int, int]) -> tv_tensors.Mask:
        """Paint the train ids (H, W) uint8."""
        return tv_tensors.Mask(torch.from_numpy(self.truth(size)))

    def truth(self, size: tuple[int, int]) -> np.ndarray:
        """Paint the train ids (H, W) uint8."""
        return self._painted(self.objects, self.objects.masks(size), size)

    def inspect(self, image: Path, size: tuple[int, int] | None, *, whole: bool) -> Inspection:
        """Look at each object, and count the pixels of each train id (256,)."""
        found = self.objects.inspect(image, size, whole=False)
        usable = None if not isinstance(found.usable, CocoAnnotations) else replace(self, objects=found.usable)
        if usable is None or size is None:
            return replace(found, usable=usable, counts=None)
        problems, kept, masks = list(found.problems), [], []
        for one in usable.objects.objects:  # decoded one by one, because one may be wrong
            try:
                masks += replace(usable.objects, objects=(one,)).masks(size)
                kept.append(one)
            except DatasetError as error:
                problems.append(Problem(ANNOTATION, image, str(error)))
        objects = replace(usable.objects, objects=tuple(kept))
        return Inspection(
            problems=tuple(problems),
            usable=replace(self, objects=objects),
            counts=np.bincount(self._painted(objects, masks, size).ravel(), minlength=256),
            strays=found.strays,
            marks=(OTHER_VALUES,),  # values are not the files'
        )

    def _painted(self, objects: CocoAnnotations, masks: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
        labels = [self.labels[label] for label in objects.classes]
        return painted(masks, labels, objects.crowd, size, objects.layers)
