"""Annotations of one image that are images in colours: a colour for each class, or one for each object.

Shapes: H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision import tv_tensors

from pointrend.data.annotations import OTHER_VALUES, of_size
from pointrend.data.color_table import ColorTable
from pointrend.data.images import ImageError, ensure_one_page, opened, upright
from pointrend.data.instance_masks import measured, one_layer
from pointrend.data.problems import ANNOTATION, SIZE, UNREADABLE, VALUE, DatasetError, Problem
from pointrend.data.samples import Annotations, Inspection, InstanceMasks, InstanceTruth

_MODES = ("RGB", "RGBA", "P")
VOID_OBJECT = (224, 224, 192)
"""The colour of outlines in the object images of Pascal VOC."""


def read_colors(path: Path) -> np.ndarray:
    """Read the colours (H, W, 3) uint8 of a label image; palette indices become the colours of the palette.

    Raises:
        ImageError: it is missing, broken, JPEG, of several pages, or without colours.
    """
    with opened(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise ImageError(f"{path}: labels must not be JPEG, which changes their colours; save them as PNG")
        if image.mode not in _MODES:
            raise ImageError(f"{path}: labels in colours must be RGB, RGBA or palette images, got {image.mode}")
        ensure_one_page(path, image)
        image.load()
        return np.asarray(upright(image).convert("RGB"))


def has_colors(path: Path) -> bool:
    """Return whether a label image has colours instead of values; False if it cannot be read."""
    try:
        with opened(path) as image:
            return image.mode in ("RGB", "RGBA") and image.format not in ("JPEG", "MPO")
    except ImageError:
        return False


@dataclass(frozen=True, eq=False)
class ColorLabels(Annotations):
    """A label image in colours: that of a class at every pixel."""

    path: Path
    table: ColorTable

    def read(self, size: tuple[int, int]) -> tv_tensors.Mask:
        """Read the train ids (H, W) uint8."""
        return tv_tensors.Mask(torch.from_numpy(self.truth(size)))

    def truth(self, size: tuple[int, int]) -> np.ndarray:
        """Read the train ids (H, W) uint8."""
        pixels = of_size(read_colors(self.path), size, self.path)
        labels, unknown = self.table.labels(pixels)
        if unknown.any():
            raise DatasetError(f"{self.path}: {self._unknown(pixels, unknown)}")
        return labels

    def inspect(self, image: Path, size: tuple[int, int] | None, *, whole: bool) -> Inspection:
        """Decode the file, look for problems, and count the pixels of each train id."""
        try:
            pixels = read_colors(self.path)
        except ImageError as error:
            return Inspection((Problem.of(UNREADABLE, self.path, error),))
        problems = []
        if size is not None and size != pixels.shape[:2]:
            detail = (
                f"labels are {pixels.shape[1]} x {pixels.shape[0]}, the image {image.name} is {size[1]} x {size[0]}"
            )
            problems.append(Problem(SIZE, self.path, detail))
        labels, unknown = self.table.labels(pixels)
        if unknown.any():
            problems.append(Problem(VALUE, self.path, self._unknown(pixels, unknown)))
        return Inspection(
            problems=tuple(problems),
            usable=None if problems else self,
            counts=np.bincount(labels.ravel(), minlength=256),
            marks=(OTHER_VALUES,),  # it has colours instead
        )

    def _unknown(self, pixels: np.ndarray, unknown: np.ndarray) -> str:
        """Describe the most frequent of the colours that are of no class."""
        colors, counts = np.unique(pixels[unknown], axis=0, return_counts=True)
        most = int(np.argmax(counts))
        return self.table.unknown_color(colors[most], int(counts[most]))


@dataclass(frozen=True, eq=False)
class ColorObjects(Annotations):
    """Two images in colours: that of a class, and one of its own for each object. Black is the background."""

    classes_image: ColorLabels
    objects_image: Path
    things: tuple[int, ...]
    """The train ids of the classes with instances, in the order of their class indices."""

    def read(self, size: tuple[int, int]) -> InstanceMasks:
        """Read the instances. An object's class is that of most of its pixels; objects of no class are left out."""
        labels = self.classes_image.truth(size)
        pixels = of_size(read_colors(self.objects_image), size, self.objects_image)
        pixels = np.where((pixels == VOID_OBJECT).all(axis=2, keepdims=True), np.uint8(0), pixels)
        ids = (pixels.astype(np.int32) * (65536, 256, 1)).sum(axis=2, dtype=np.int32)
        numbers, classes = [], []
        for number in np.unique(ids[ids > 0]).tolist():
            train_id = int(np.bincount(labels[ids == number], minlength=256).argmax())
            if train_id in self.things:
                numbers.append(number)
                classes.append(self.things.index(train_id))
        return one_layer(ids, numbers, classes, [False] * len(numbers))

    def truth(self, size: tuple[int, int]) -> InstanceTruth:
        """Read the instances; boxes are the extents of the masks."""
        return measured(self.read(size))

    def inspect(self, image: Path, size: tuple[int, int] | None, *, whole: bool) -> Inspection:
        """Read the files if `whole`, look for problems, and count the objects."""
        if size is None or not whole:
            return Inspection(usable=self, read=False)
        try:
            masks = self.read(size)
        except ValueError as error:
            return Inspection((Problem(ANNOTATION, image, str(error)),))
        return Inspection(usable=self, counts=np.bincount(masks.classes.numpy(), minlength=1))
