"""The annotations of one image in a COCO or LVIS file.

Shapes: R instances, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from pointrend.data.coco_file import CocoObject
from pointrend.data.instance_masks import extent, pack
from pointrend.data.problems import ANNOTATION, SIZE, DatasetError, Problem
from pointrend.data.samples import Annotations, Inspection, InstanceMasks, InstanceTruth
from pointrend.data.segmentations import mask_to_rle, to_mask, without_strays


@dataclass(frozen=True, eq=False)
class CocoAnnotations(Annotations):
    """The annotations of one image in a COCO or LVIS file."""

    source: Path
    """The annotation file, for messages."""
    size: tuple[int, int]
    """(H, W) of the image, as the file states it."""
    objects: tuple[CocoObject, ...]
    negative: tuple[int, ...] = ()
    """LVIS: classes that were looked for in the image and not found."""
    not_exhaustive: tuple[int, ...] = ()
    """LVIS: classes of which the image may show more objects than are annotated."""

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """The class index of each annotation."""
        return tuple(one.label for one in self.objects)

    @property
    def crowd(self) -> tuple[bool, ...]:
        """Whether each annotation marks a region of many objects."""
        return tuple(one.crowd for one in self.objects)

    @property
    def layers(self) -> tuple[int, ...]:
        """What each annotation lies over; see `pointrend.data.painted`."""
        return tuple(one.layer for one in self.objects)

    def masks(self, size: tuple[int, int]) -> list[np.ndarray]:
        """Decode the mask (H, W) bool of each annotation. Raises as `read` does."""
        if size != self.size:
            raise DatasetError(f"{self.source}: the file states image size {self.size}, the image is {size} (H, W)")
        return [self._mask(one) for one in self.objects]

    def read(self, size: tuple[int, int]) -> InstanceMasks:
        """Decode the instances; masks without pixels are dropped."""
        return pack(self.masks(size), self.classes, self.crowd, size)

    def truth(self, size: tuple[int, int]) -> InstanceTruth:
        """Decode the instances; boxes and areas are those stated in the file, or else the masks'."""
        pairs = list(zip(self.objects, self.masks(size), strict=True))
        boxes = [extent(mask) if one.box is None else one.box for one, mask in pairs]
        return InstanceTruth(
            boxes=np.array(boxes, np.float64).reshape(-1, 4),
            classes=np.array(self.classes, np.int64),
            masks=[mask_to_rle(mask) for _, mask in pairs],
            crowd=np.array(self.crowd, bool),
            areas=np.array([mask.sum() if one.area is None else one.area for one, mask in pairs], np.float64),
            absent=self.negative,
            incomplete=self.not_exhaustive,
        )

    def inspect(self, image: Path, size: tuple[int, int] | None, *, whole: bool) -> Inspection:
        """Compare the image's size to the file's, look at each annotation, and decode the masks if `whole`."""
        whole = whole and size is not None
        if size is not None and size != self.size:
            detail = f"is {size[1]} x {size[0]}, {self.source.name} states {self.size[1]} x {self.size[0]}"
            return Inspection((Problem(SIZE, image, detail),))
        problems, kept, hollow = [], [], 0
        for one in self.objects:
            try:
                if one.problem:
                    raise self._error(one, one.problem)
                hollow += whole and not self._mask(one).any()
                kept.append(one)
            except DatasetError as error:
                problems.append(Problem(ANNOTATION, image, str(error)))
        return Inspection(
            problems=tuple(problems),
            usable=replace(self, objects=tuple(kept)) if problems else self,
            counts=np.bincount([one.label for one in kept if not one.crowd], minlength=1),
            read=whole,
            hollow=hollow,
            strays=sum(_strays(one.segmentation) for one in kept),
        )

    def _mask(self, one: CocoObject) -> np.ndarray:
        try:
            if one.segmentation is None:
                raise DatasetError("no segmentation")
            return to_mask(without_strays(one.segmentation), self.size)
        except DatasetError as error:
            raise self._error(one, str(error)) from error

    def _error(self, one: CocoObject, reason: str) -> DatasetError:
        return DatasetError(f"{self.source}: {one.name}: {reason}")


def _strays(segmentation: object) -> int:
    return len(segmentation) - len(without_strays(segmentation)) if isinstance(segmentation, Sequence) else 0
