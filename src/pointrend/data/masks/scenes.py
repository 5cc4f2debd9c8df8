"""Images with exact masks, drawn by chance from folders of photographs, annotations and cut-outs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image
from scipy import ndimage

from pointrend.data.masks.distances import distance
from pointrend.data.masks.shapes import filling, shape

Item = TypeVar("Item")


@dataclass(frozen=True)
class Scene:
    """A square of an image with a mask."""

    image: np.ndarray
    """(S, S, 3) uint8."""
    mask: np.ndarray
    """(S, S) float32 in [0, 1], the truth."""
    ignored: np.ndarray
    """(S, S) bool, where the truth is not known."""
    given: np.ndarray | None = None
    """(S, S) float32, a mask to refine; None: one is made of the truth."""


class Source(Protocol):
    """Where scenes come from."""

    def draw(self, size: int, random: np.random.Generator) -> Scene:
        """Return a scene of `size` pixels a side."""


@dataclass(frozen=True)
class Photos:
    """Photographs to take backgrounds and fillings from."""

    paths: Sequence[Path]

    def crop(self, size: int, random: np.random.Generator) -> np.ndarray:
        """Return a square (size, size, 3) uint8 of a photograph, scaled down by chance and mirrored."""
        with Image.open(_one(self.paths, random)) as photo:
            least = min(1.0, size / min(photo.size))
            scale = max(least, float(np.exp(random.uniform(np.log(0.35), 0))))
            smaller = _resized(photo.convert("RGB"), scale)
        pixels = _covered(np.asarray(smaller), size)
        top, left = (int(random.integers(extent - size + 1)) for extent in pixels.shape[:2])
        part = pixels[top : top + size, left : left + size]
        return part[:, ::-1] if random.random() < 0.5 else part


@dataclass(frozen=True)
class Cutouts:
    """Objects with alpha over photographs: their visible parts are exact masks."""

    groups: Sequence[Sequence[Path]]
    """Files; each group is drawn equally often."""
    photos: Photos

    def draw(self, size: int, random: np.random.Generator) -> Scene:
        canvas = self.photos.crop(size, random).astype(np.float32)
        layers: list[np.ndarray] = []
        for _ in range(random.integers(1, 4)):
            color, alpha = self._placed(size, random)
            if random.random() < 0.6:  # of the surroundings' brightness and tint
                shift = (canvas.mean((0, 1)) - _mean(color, alpha)) * random.uniform(0.2, 1.0)
                color = (color + shift).clip(0, 255)
            if random.random() < 0.4:
                shadow = ndimage.gaussian_filter(
                    ndimage.shift(alpha, random.normal(0, 12, 2), order=1), random.uniform(3, 15)
                )
                canvas = canvas * (1 - random.uniform(0.2, 0.7) * shadow[..., None])
            canvas = canvas * (1 - alpha[..., None]) + color * alpha[..., None]
            layers = [layer * (1 - alpha) for layer in layers] + [alpha]
        chosen = range(len(layers)) if random.random() < 0.2 else [int(random.integers(len(layers)))]
        mask = np.sum([layers[index] for index in chosen], axis=0).clip(0, 1).astype(np.float32)
        return Scene(canvas.clip(0, 255).astype(np.uint8), mask, np.zeros(mask.shape, bool))

    def _placed(self, size: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return colours (S, S, 3) float32 and alpha (S, S) float32 of an object somewhere on the canvas."""
        group = _one(self.groups, random)
        with Image.open(_one(group, random)) as opened:
            cutout = opened.convert("RGBA")
        most = min(1.0, 1.6 * size / max(cutout.size))
        cutout = _resized(cutout, most * float(np.exp(random.uniform(np.log(0.35), 0))))
        pixels = np.asarray(cutout, np.float32)
        pixels = pixels[:, ::-1] if random.random() < 0.5 else pixels
        color, alpha = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
        height, width = pixels.shape[:2]
        top = int(random.integers(-height // 3, max(1, size - height + height // 3)))
        left = int(random.integers(-width // 3, max(1, size - width + width // 3)))
        rows, columns = slice(max(0, top), min(size, top + height)), slice(max(0, left), min(size, left + width))
        part = pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        color[rows, columns], alpha[rows, columns] = part[..., :3], part[..., 3] / 255
        return color, alpha


@dataclass(frozen=True)
class Shapes:
    """Drawn shapes, several over each other, filled with pieces of photographs and ramps."""

    photos: Photos

    def draw(self, size: int, random: np.random.Generator) -> Scene:
        canvas = (
            filling(self.photos.crop(size, random), random) if random.random() < 0.4 else self.photos.crop(size, random)
        )
        canvas = canvas.astype(np.float32)
        mask = np.zeros((size, size), np.float32)
        for _ in range(random.integers(1, 4)):
            drawn = shape(size, random)
            filled = filling(self.photos.crop(size, random), random)
            canvas = canvas * (1 - drawn[..., None]) + filled * drawn[..., None]
            mask = drawn if random.random() < 0.7 or not mask.any() else np.maximum(mask * (1 - drawn), 0)
        return Scene(canvas.clip(0, 255).astype(np.uint8), mask.astype(np.float32), np.zeros(mask.shape, bool))


@dataclass(frozen=True)
class Labelled:
    """Photographs with label maps: a class, several, or all but the first; the outlines are exact to a pixel or so."""

    files: Sequence[tuple[Path, Path]]
    """Images and label images."""
    soft: Path | None = None
    """A folder with soft masks of all but the first class, named as the images, as another model gave them."""
    margin: float = 1.0
    """Pixels at each outline that are ignored."""
    instances: bool = False
    """Labels are ids of objects."""
    binary: bool = False
    """Labels are 0 and 255."""

    def draw(self, size: int, random: np.random.Generator) -> Scene:
        image_path, label_path = _one(self.files, random)
        with Image.open(image_path) as photo, Image.open(label_path) as labelled:
            scale = float(np.exp(random.uniform(np.log(0.4), 0)))
            pixels = np.asarray(_resized(photo.convert("RGB"), scale))
            labels = np.asarray(labelled if not self.binary else labelled.convert("L")).astype(np.int32)
        labels = (labels > 127).astype(np.int32) if self.binary else labels
        present = [int(value) for value in np.unique(labels) if value not in (0, 255)] or [0]
        everything = random.random() < (0.3 if self.instances else 0.55)
        some = random.choice(present, random.integers(1, 1 + min(3, len(present))), replace=False)
        of_labels = (labels != 0) & (labels != 255) if everything else np.isin(labels, some)
        size_now = (pixels.shape[1], pixels.shape[0])
        mask = _resized_mask(of_labels.astype(np.float32), size_now)
        maps = [pixels.astype(np.float32), mask]
        if self.soft is not None and everything and random.random() < 0.75:
            with Image.open(self.soft / f"{image_path.stem}.png") as soft:
                maps.append(_resized_mask(np.asarray(soft.convert("L"), np.float32) / 255, size_now))
        image, truth, *given = _around_outline(maps, mask, size, random)
        ignored = np.abs(distance(truth)) < self.margin * max(scale, 0.5)
        return Scene(image.astype(np.uint8), truth, ignored, given[0] if given else None)


def coco_labelled(root: Path, annotations: Path) -> list[tuple[Path, Any]]:
    """Return the images of a COCO file with their objects' annotations that are large enough to refine."""
    content = json.loads(annotations.read_text())
    by_image: dict[int, list[dict[str, Any]]] = {}
    for one in content["annotations"]:
        if not one.get("iscrowd") and one["area"] > 1500:
            by_image.setdefault(one["image_id"], []).append(one)
    return [
        (root / image["file_name"], by_image[image["id"]]) for image in content["images"] if image["id"] in by_image
    ]


@dataclass(frozen=True)
class CocoObjects:
    """Single objects of a COCO file; their polygons are two pixels off in the median, so three are ignored."""

    images: Sequence[tuple[Path, Any]]
    margin: float = 3.0

    def draw(self, size: int, random: np.random.Generator) -> Scene:
        from pycocotools import mask as rle

        path, objects = _one(self.images, random)
        one = _one(objects, random)
        scale = float(np.exp(random.uniform(np.log(0.4), 0)))
        with Image.open(path) as photo:
            width, height = photo.size
            pixels = np.asarray(_resized(photo.convert("RGB"), scale))
        polygons = rle.frPyObjects(one["segmentation"], height, width)
        merged = rle.merge(polygons) if isinstance(polygons, list) else polygons
        mask = _resized_mask(rle.decode(merged).astype(np.float32), (pixels.shape[1], pixels.shape[0]))
        image, truth = _around_outline([pixels.astype(np.float32), mask], mask, size, random)
        return Scene(image.astype(np.uint8), truth, np.abs(distance(truth)) < self.margin * max(scale, 0.5))


def spoiled(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Change an image (H, W, 3) uint8 as cameras and files do: colours, blur, noise, JPEG."""
    changed = image.astype(np.float32)
    changed = (changed - 128) * random.uniform(0.7, 1.25) + 128 + random.normal(0, 14)
    changed = changed * random.uniform(0.92, 1.08, 3).astype(np.float32)
    if random.random() < 0.06:
        changed = changed.mean(2, keepdims=True).repeat(3, 2)
    if random.random() < 0.3:
        changed = ndimage.gaussian_filter(changed, (*[random.uniform(0.4, 1.4)] * 2, 0))
    if random.random() < 0.4:
        changed = changed + random.normal(0, random.uniform(1, 9), changed.shape).astype(np.float32)
    result = changed.clip(0, 255).astype(np.uint8)
    if random.random() < 0.4:
        file = io.BytesIO()
        Image.fromarray(result).save(file, "JPEG", quality=int(random.integers(60, 96)))
        result = np.asarray(Image.open(file))
    return result


def _resized(image: Image.Image, scale: float) -> Image.Image:
    size = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
    if size == image.size:
        return image
    if image.mode == "RGBA":  # colours of clear pixels must not bleed
        return image.convert("RGBa").resize(size, Image.Resampling.BOX, reducing_gap=2).convert("RGBA")
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)


def _resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR), np.float32).clip(0, 1)


def _covered(array: np.ndarray, size: int) -> np.ndarray:
    """Mirror an array (H, W, ...) at its ends until it covers a square."""
    down, right = max(0, size - array.shape[0]), max(0, size - array.shape[1])
    if not (down or right):
        return array
    return np.pad(array, ((0, down), (0, right), *[(0, 0)] * (array.ndim - 2)), mode="symmetric")


def _around_outline(
    maps: list[np.ndarray], mask: np.ndarray, size: int, random: np.random.Generator
) -> list[np.ndarray]:
    """Cut a square out of maps of one size, about a random pixel of a mask's outline, and mirror it by chance."""
    rows, columns = np.nonzero(np.abs(ndimage.uniform_filter(mask, 3) - 0.5) < 0.45)
    index = int(random.integers(max(1, len(rows))))
    middle = (rows[index], columns[index]) if len(rows) else (mask.shape[0] // 2, mask.shape[1] // 2)
    covered = [_covered(array, size) for array in maps]
    corner = []
    for axis in (0, 1):
        start = int(middle[axis]) - size // 2 + int(random.integers(-size // 6, size // 6 + 1))
        corner.append(min(max(0, start), covered[0].shape[axis] - size))
    parts = [array[corner[0] : corner[0] + size, corner[1] : corner[1] + size] for array in covered]
    mirrored = random.random() < 0.5
    return [np.ascontiguousarray(part[:, ::-1] if mirrored else part) for part in parts]


def _one(items: Sequence[Item], random: np.random.Generator) -> Item:
    return items[int(random.integers(len(items)))]


def _mean(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.asarray((color * alpha[..., None]).sum((0, 1)) / max(1.0, float(alpha.sum())))
