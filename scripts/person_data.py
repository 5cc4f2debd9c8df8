"""Make what person-lite0 is trained on and measured with, of the folders people, coco and cutouts.

    python scripts/person_data.py DATA OUT --composites 3000

`OUT/train` has the photographs of people, those of COCO (several times, most often those with large persons), and
composites: persons cut out of all these, whole or in part, recoloured, among and behind other things. `OUT/val` is
people's; `OUT/coco` has COCO's val photographs with persons over 3 % of the image. Labels are 0 background, 1 person,
255 not certain (crowds; in training, too, what lies within 2 pixels of COCO's polygons, which are that far off).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle
from rich.progress import track
from scipy import ndimage

IGNORE = 255
PEOPLE_SYNTH = ("canvas_1", "canvas_2", "canvas_3", "ld_dreamshaper_sd", "ld_sdxl_bgble2fg_default_scheduler")
"""The cut-outs of persons; the others of their folder are dogs."""
EMOJI_OF_PEOPLE = (
    *("1f3c3", "1f3c4", "1f3cb", "1f3cc", "1f466", "1f467", "1f468", "1f47c", "1f9b9", "1f9cd", "1f9cf", "1fac3"),
    *(f"1f9d{digit}" for digit in "12356789abcde"),
)
WORN = ("person", "tie", "handbag", "backpack", "suitcase", "cell phone", "umbrella")
"""COCO's classes that are not taken as other things, because their polygons show parts of persons."""


@dataclass(frozen=True)
class Cut:
    """Something cut out."""

    color: np.ndarray
    """(H, W, 3) float32."""
    alpha: np.ndarray
    """(H, W) float32 in [0, 1]."""
    parts: np.ndarray
    """(H, W) uint8, labels of clothes and skin; 0 where there are none."""


@dataclass(frozen=True)
class Coco:
    """The photographs of a split of COCO with their annotations."""

    images: dict[int, Any]
    annotations: dict[int, list[Any]]
    names: dict[int, str]
    folder: Path

    @classmethod
    def read(cls, root: Path, split: str) -> Coco:
        content = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
        of_image: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
        for one in content["annotations"]:
            of_image[one["image_id"]].append(one)
        names = {category["id"]: category["name"] for category in content["categories"]}
        return cls({image["id"]: image for image in content["images"]}, of_image, names, root / "images")

    def path(self, image_id: int) -> Path:
        return self.folder / self.images[image_id]["file_name"]

    def mask(self, annotation: Any) -> np.ndarray:
        """Return an object's mask (H, W) bool."""
        image = self.images[annotation["image_id"]]
        found = rle.frPyObjects(annotation["segmentation"], image["height"], image["width"])
        return np.asarray(rle.decode(rle.merge(found) if isinstance(found, list) else found), bool)

    def persons(self, image_id: int, margin: int = 0) -> np.ndarray:
        """Return labels (H, W) uint8: 1 person, `IGNORE` in crowds and within `margin` pixels of the outline."""
        image = self.images[image_id]
        labels = np.zeros((image["height"], image["width"]), np.uint8)
        persons = [one for one in self.annotations[image_id] if self.names[one["category_id"]] == "person"]
        for one in persons:
            if not one["iscrowd"]:
                labels[self.mask(one)] = 1
        if margin:
            wide = np.ones((2 * margin + 1,) * 2, bool)
            person = labels == 1
            labels[ndimage.binary_dilation(person, wide) & ~ndimage.binary_erosion(person, wide, border_value=1)] = (
                IGNORE
            )
        for one in persons:
            if one["iscrowd"]:
                labels[self.mask(one) & (labels != 1)] = IGNORE
        return labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--composites", type=int, default=3000)
    parser.add_argument("--people", type=int, default=1, help="how often each photograph of people is taken")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data, out = arguments.data, arguments.out
    missing = [name for name in ("people", "coco", "cutouts") if not (data / name).is_dir()]
    if missing:
        raise SystemExit(
            f"{data}: expected the folders people, coco and cutouts, but {', '.join(missing)} is not there"
        )
    if out.exists() and any(out.iterdir()):
        raise SystemExit(f"{out}: exists and is not empty; name a new folder, or remove this one")
    for split in ("train", "val", "coco"):
        for kind in ("images", "labels"):
            (out / split / kind).mkdir(parents=True)
    (out / "classes.json").write_text('["background", "person"]\n')
    for split in ("train", "val"):
        for path in sorted((data / "people" / split / "images").iterdir()):
            labels = np.asarray(Image.open(path.parent.parent / "labels" / f"{path.stem}.png"))
            for copy in range(arguments.people if split == "train" else 1):
                stem = f"{path.stem}_{copy}" if copy else path.stem
                save(out / split, stem, path, np.where(labels == IGNORE, IGNORE, labels > 0))
    train, val = Coco.read(data / "coco", "train"), Coco.read(data / "coco", "val")
    for image_id in val.images:
        labels = val.persons(image_id)
        if (labels == 1).mean() > 0.03:
            save(out / "coco", f"{image_id:012}", val.path(image_id), labels)
    for image_id in train.images:
        labels = train.persons(image_id, margin=2)
        for copy in range(14 if (labels == 1).mean() > 0.03 else 5):
            save(out / "train", f"coco_{image_id:012}_{copy}", train.path(image_id), labels)
    maker = Composites(data, train)
    for index in track(range(arguments.composites), "composites"):
        random = np.random.default_rng([arguments.seed, index])
        image, labels = maker.draw(random)
        path = out / "train" / "images" / f"composite_{index:05}.jpg"
        Image.fromarray(image).save(path, quality=int(random.integers(60, 96)))
        Image.fromarray(labels).save(out / "train" / "labels" / f"composite_{index:05}.png")


def save(folder: Path, stem: str, image: Path, labels: np.ndarray) -> None:
    shutil.copy(image, folder / "images" / f"{stem}{image.suffix}")
    Image.fromarray(labels.astype(np.uint8)).save(folder / "labels" / f"{stem}.png")


class Composites:
    """Draws composites from the folders of `data`."""

    def __init__(self, data: Path, coco: Coco) -> None:
        self.coco = coco
        self.people = sorted((data / "people" / "train" / "images").iterdir())
        cutouts = data / "cutouts"
        self.synthetic = [cutouts / "people_synth" / f"{name}.webp" for name in PEOPLE_SYNTH]
        self.things = [
            path
            for folder in ("emoji3d", "people_synth", "photo_pd")
            for path in sorted((cutouts / folder).iterdir())
            if path.suffix in (".webp", ".png")
            and path.stem not in PEOPLE_SYNTH
            and not path.stem.startswith(EMOJI_OF_PEOPLE)
        ]
        self.photographed = [path for path in self.things if path.parent.name != "emoji3d"]
        objects = [one for of_image in coco.annotations.values() for one in of_image if not one["iscrowd"]]
        large = [one for one in objects if one["area"] > 0.01 * self._area(one)]
        self.persons = [one for one in large if coco.names[one["category_id"]] == "person"]
        self.others = [one for one in large if coco.names[one["category_id"]] not in WORN]
        self.empty, self.full = [], []
        for image_id in coco.images:
            (self.full if (coco.persons(image_id) > 0).any() else self.empty).append(image_id)

    def _area(self, annotation: Any) -> float:
        image = self.coco.images[annotation["image_id"]]
        return float(image["height"] * image["width"])

    def draw(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return an image (H, W, 3) uint8 and its labels (H, W) uint8."""
        canvas, labels = self._background(random)
        persons = [(self._person(random), True) for _ in range(random.choice([0, 1, 2, 3], p=[0.1, 0.5, 0.25, 0.15]))]
        behind = [(self._thing(random), False) for _ in range(random.choice([0, 1, 2, 3], p=[0.2, 0.35, 0.3, 0.15]))]
        before = [(self._thing(random), False) for _ in range(random.random() < 0.3)]
        for cut, is_person in (*behind, *persons, *before):
            canvas, alpha = pasted(canvas, cut, random, large=is_person)
            labels[alpha > 0.5] = is_person
        return spoiled(canvas, random), labels

    def _background(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image_id = one(self.empty if random.random() < 0.65 else self.full, random)
        with Image.open(self.coco.path(image_id)) as opened:
            photo = opened.convert("RGB")
        labels = Image.fromarray(self.coco.persons(image_id, margin=2))
        frame = random.integers(320, 561, 2)
        least = max(frame[0] / photo.height, frame[1] / photo.width)
        scale = max(least, float(np.exp(random.uniform(np.log(0.6), np.log(1.1)))))
        size = (max(int(frame[1]), round(photo.width * scale)), max(int(frame[0]), round(photo.height * scale)))
        top, left = (
            int(random.integers(extent - wanted + 1)) for extent, wanted in zip(size[::-1], frame, strict=True)
        )
        box = (left, top, left + int(frame[1]), top + int(frame[0]))
        pixels = np.asarray(photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2).crop(box), np.float32)
        truth = np.asarray(labels.resize(size, Image.Resampling.NEAREST).crop(box)).copy()
        if random.random() < 0.5:
            pixels, truth = pixels[:, ::-1], truth[:, ::-1].copy()
        if random.random() < 0.25:  # out of focus
            pixels = ndimage.gaussian_filter(pixels, (*[random.uniform(1, 4)] * 2, 0))
        return tinted(pixels, random, 0.25), truth

    def _person(self, random: np.random.Generator) -> Cut:
        kind = random.random()
        if kind < 0.06:
            return turned(opened_cut(one(self.synthetic, random)), random, 10)
        if kind < 0.28:
            return turned(self._object(one(self.persons, random)), random, 20)
        path = one(self.people, random)
        color = np.asarray(Image.open(path).convert("RGB"), np.float32)
        parts = np.asarray(Image.open(path.parent.parent / "labels" / f"{path.stem}.png"))
        cut = recoloured(trimmed(Cut(color, softened(parts > 0), parts)), random)
        height = cut.alpha.shape[0]
        share = {0: 1.0, 1: random.uniform(0.4, 0.7), 2: random.uniform(0.2, 0.35)}[
            int(random.choice(3, p=[0.35, 0.35, 0.3]))
        ]
        kept = trimmed(rows_of(cut, round(height * share)))
        return turned(kept, random, 25 if share == 1 else 8)

    def _thing(self, random: np.random.Generator) -> Cut:
        kind = random.random()
        if kind < 0.55:
            return turned(self._object(one(self.others, random)), random, 20)
        return turned(opened_cut(one(self.things if kind < 0.85 else self.photographed, random)), random, 30)

    def _object(self, annotation: Any) -> Cut:
        color = np.asarray(Image.open(self.coco.path(annotation["image_id"])).convert("RGB"), np.float32)
        mask = self.coco.mask(annotation)
        return trimmed(Cut(color, softened(mask), np.zeros(mask.shape, np.uint8)))


def softened(mask: np.ndarray) -> np.ndarray:
    """Return the alpha of a mask (H, W) bool: half a pixel smaller, and soft, so that no seam is seen."""
    return ((ndimage.gaussian_filter(mask.astype(np.float32), 1.0) - 0.35) / 0.65).clip(0, 1)


def opened_cut(path: Path) -> Cut:
    pixels = np.asarray(Image.open(path).convert("RGBA"), np.float32)
    return trimmed(Cut(pixels[..., :3], pixels[..., 3] / 255, np.zeros(pixels.shape[:2], np.uint8)))


def trimmed(cut: Cut) -> Cut:
    """Return what is left of the clear margins being cut off."""
    rows, columns = np.nonzero(cut.alpha > 0.02)
    if not len(rows):
        return cut
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    return Cut(cut.color[box], cut.alpha[box], cut.parts[box])


def rows_of(cut: Cut, rows: int) -> Cut:
    return Cut(cut.color[:rows], cut.alpha[:rows], cut.parts[:rows])


def recoloured(cut: Cut, random: np.random.Generator) -> Cut:
    """Give each part other colours: clothes any, skin and hair other brightness."""
    color = cut.color.copy()
    for part in np.unique(cut.parts):
        chosen = cut.parts == part
        if part in (1, 2):  # skin, hair
            color[chosen] *= random.uniform(0.45, 1.15)
        elif part and random.random() < 0.7:
            pixels = color[chosen][:, random.permutation(3)]
            color[chosen] = pixels * random.uniform(0.4, 1.4, 3) + random.uniform(-10, 60)
    return Cut(color.clip(0, 255), cut.alpha, cut.parts)


def turned(cut: Cut, random: np.random.Generator, most: float) -> Cut:
    """Mirror by chance, and rotate by up to `most` degrees; seldom by a quarter."""
    color, alpha = (cut.color[:, ::-1], cut.alpha[:, ::-1]) if random.random() < 0.5 else (cut.color, cut.alpha)
    if random.random() < 0.5:
        angle = float(random.choice([-90, 90])) if most > 20 and random.random() < 0.1 else random.uniform(-most, most)
        image = Image.fromarray(np.dstack([color, alpha * 255]).round().clip(0, 255).astype(np.uint8), "RGBA")
        pixels = np.asarray(
            image.convert("RGBa").rotate(angle, Image.Resampling.BILINEAR, expand=True).convert("RGBA"), np.float32
        )
        color, alpha = pixels[..., :3], pixels[..., 3] / 255
    return trimmed(Cut(color, alpha, np.zeros(alpha.shape, np.uint8)))


def pasted(canvas: np.ndarray, cut: Cut, random: np.random.Generator, *, large: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lay a cut-out over a canvas (H, W, 3) float32; return the result and the alpha (H, W) that covers it."""
    height, width = canvas.shape[:2]
    share = random.uniform(0.35, 1.5) if large else random.uniform(0.15, 0.8)
    factor = min(share * height / cut.alpha.shape[0], 1.6 * width / cut.alpha.shape[1], 1.4)
    color, alpha = resized(cut, max(factor, 24 / max(cut.alpha.shape)))
    size = alpha.shape
    cropped = large and random.random() < 0.6  # its lower end lies at the lower border or beyond, as in portraits
    lowest = max(0, height - size[0])
    top = (
        lowest + int(random.integers(0, max(1, size[0] // 4)))
        if cropped
        else int(random.integers(-(size[0] // 5), lowest + 1))
    )
    left = int(random.integers(-(size[1] // 3), max(1, width - size[1] + size[1] // 3)))
    if random.random() < 0.7:
        color = color + (
            canvas.mean((0, 1)) - color[alpha > 0.5].mean(0) if (alpha > 0.5).any() else 0
        ) * random.uniform(0.1, 0.7)
    if random.random() < 0.25:
        color = ndimage.gaussian_filter(color, (*[random.uniform(0.5, 1.5)] * 2, 0))
    layer, covering = np.zeros_like(canvas), np.zeros((height, width), np.float32)
    rows, columns = slice(max(0, top), min(height, top + size[0])), slice(max(0, left), min(width, left + size[1]))
    part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    layer[rows, columns], covering[rows, columns] = color[part], alpha[part]
    if random.random() < 0.35:
        shadow = ndimage.gaussian_filter(
            ndimage.shift(covering, random.normal(0, 10, 2), order=1), random.uniform(3, 12)
        )
        canvas = canvas * (1 - random.uniform(0.2, 0.6) * shadow[..., None])
    return canvas * (1 - covering[..., None]) + layer.clip(0, 255) * covering[..., None], covering


def resized(cut: Cut, factor: float) -> tuple[np.ndarray, np.ndarray]:
    size = (max(4, round(cut.alpha.shape[1] * factor)), max(4, round(cut.alpha.shape[0] * factor)))
    image = Image.fromarray(np.dstack([cut.color, cut.alpha * 255]).round().clip(0, 255).astype(np.uint8), "RGBA")
    pixels = np.asarray(
        image.convert("RGBa").resize(size, Image.Resampling.BILINEAR, reducing_gap=2).convert("RGBA"), np.float32
    )
    return pixels[..., :3], pixels[..., 3] / 255


def tinted(pixels: np.ndarray, random: np.random.Generator, most: float) -> np.ndarray:
    return np.asarray(
        ((pixels - 128) * random.uniform(0.75, 1.2) + 128) * random.uniform(1 - most, 1 + most, 3), np.float32
    )


def spoiled(canvas: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Change a composite as cameras do: tint, blur, noise; return uint8."""
    changed = tinted(canvas, random, 0.1)
    if random.random() < 0.35:
        changed = ndimage.gaussian_filter(changed, (*[random.uniform(0.4, 1.3)] * 2, 0))
    if random.random() < 0.4:
        changed = changed + random.normal(0, random.uniform(1, 8), changed.shape)
    return changed.round().clip(0, 255).astype(np.uint8)


def one(items: Sequence[Any], random: np.random.Generator) -> Any:
    return items[int(random.integers(len(items)))]


if __name__ == "__main__":
    main()
