"""Synthetic scenes, and small data sets of them, laid out, named and labelled as benchmarks distribute theirs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pointrend.data.segmentations import mask_to_rle

COLORS = [(70, 90, 80), (190, 80, 70), (80, 110, 200)]


def draw_scene(seed: int, size: int = 96) -> tuple[Image.Image, Image.Image]:
    """An RGB image and its labels; every class has a colour of its own, under noise and shading."""
    rng = np.random.default_rng(seed)
    labels = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(labels)
    for _ in range(2):
        x, y = rng.uniform(0.2, 0.8, 2) * size
        radius = rng.uniform(0.12, 0.25) * size
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
        angles = np.sort(rng.uniform(0, 2 * np.pi, 5))
        center, reach = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(0.15, 0.3) * size
        corners = center + reach * np.stack((np.cos(angles), np.sin(angles)), axis=1)
        draw.polygon([tuple(corner) for corner in corners], fill=2)
    values = np.array(labels)
    shade = 1.0 + 0.2 * np.sin(np.linspace(0, rng.uniform(2, 6), size))[:, None, None]
    pixels = np.array(COLORS)[values] * shade + rng.normal(0, 12, (size, size, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), labels


def ellipses(random: np.random.Generator, *, count: int, size: int = 96) -> np.ndarray:
    """(size, size) ids of up to `count` ellipses, of which later ones hide earlier ones."""
    y, x = np.mgrid[:size, :size] + 0.5
    ids = np.zeros((size, size), np.int32)
    for number in range(1, count + 1):
        (cx, cy), (rx, ry) = random.uniform(8, size - 8, 2), random.uniform(7, 14, 2)
        ids[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1] = number
    return ids


def write_scene(image: Path, labels: Path | None, seed: int, values: tuple[int, ...], *, size: int = 64) -> None:
    """Write a scene whose three classes have the label values `values`."""
    drawn, classes = draw_scene(seed, size)
    for path in (image, labels):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(image)
    if labels is not None:
        Image.fromarray(np.array(values, np.uint8)[np.array(classes)]).save(labels)


def voc(root: Path) -> Path:
    """VOC2012 with the label images of SBD, as tools for it write them; `SegmentationClass` has a border of 255."""
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    splits = {"train": ["2007_000032", "2007_000039"], "aug": ["2008_000008", "2008_000015"], "val": ["2007_000033"]}
    for split, stems in splits.items():
        (lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
        folder = "SegmentationClassAug" if split == "aug" else "SegmentationClass"
        for stem in stems:
            path = root / folder / f"{stem}.png"
            write_scene(root / "JPEGImages" / f"{stem}.jpg", path, int(stem[-6:]), (0, 15, 20))
            if split != "aug":
                labels = np.array(Image.open(path))
                labels[:, :2] = 255
                Image.fromarray(labels).save(path)
    (lists / "test.txt").write_text("2008_000006\n")
    write_scene(root / "JPEGImages" / "2008_000006.jpg", None, 6, ())
    return root


def cityscapes(root: Path) -> Path:
    """leftImg8bit and gtFine with label and instance ids; train, val, and test, whose labels are void as published."""
    for split, city, frames in (("train", "aachen", 3), ("val", "frankfurt", 2), ("test", "berlin", 2)):
        for frame in range(frames):
            name = f"{city}_000000_{frame + 19:06d}"
            truth = root / "gtFine" / split / city
            labels = truth / f"{name}_gtFine_labelIds.png"
            values = (1, 1, 1) if split == "test" else (7, 26, 24)
            write_scene(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", labels, frame, values)
            ids = np.array(Image.open(labels)).astype(np.uint16)
            ids[ids >= 24] = ids[ids >= 24] * 1000 + 1
            Image.fromarray(ids).save(truth / f"{name}_gtFine_instanceIds.png")
    return root


def ade20k(root: Path) -> Path:
    """ADEChallengeData2016, label values from 1; and `images/testing` without annotations."""
    for folder, kind, count in (("training", "train", 3), ("validation", "val", 2), ("testing", "test", 2)):
        for number in range(1, count + 1):
            stem = f"ADE_{kind}_{number:08d}"
            labels = None if kind == "test" else root / "annotations" / folder / f"{stem}.png"
            write_scene(root / "images" / folder / f"{stem}.jpg", labels, number, (3, 0, 150))
    return root


def coco(root: Path, *, images: int = 4) -> Path:
    """annotations/instances_val2017.json and val2017/, ids and categories with gaps; test2017 is listed alone."""
    categories = [{"id": 3, "name": "car"}, {"id": 18, "name": "dog"}]
    content: dict[str, list[object]] = {"images": [], "annotations": [], "categories": list(categories)}
    listed = []
    (root / "annotations").mkdir(parents=True)
    for split in ("val2017", "test2017"):
        (root / split).mkdir()
    for index in range(images):
        random = np.random.default_rng(index)
        ids, number = ellipses(random, count=4, size=64), 139 + 146 * index
        grey = np.where(ids > 0, 170 + 10 * (ids % 4), 40).astype(np.uint8)
        entry = {"id": number, "file_name": f"{number:012d}.jpg", "height": 64, "width": 64}
        for split in ("val2017", "test2017"):
            Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(root / split / f"{number:012d}.jpg")
        content["images"].append(entry)
        listed.append(entry)
        for one in np.unique(ids[ids > 0]).tolist():
            mask = ids == one
            rows, columns = np.nonzero(mask)
            left, top = int(columns.min()), int(rows.min())
            box = [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
            made = {"id": 1000 + len(content["annotations"]), "image_id": number, "iscrowd": 0, "bbox": box}
            category = categories[one % 2]["id"]
            made |= {"category_id": category, "area": int(mask.sum()), "segmentation": mask_to_rle(mask)}
            content["annotations"].append(made)
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    test = {"images": listed, "categories": categories}
    (root / "annotations" / "image_info_test2017.json").write_text(json.dumps(test))
    return root


def write_split(folder: Path, count: int, first_seed: int, size: int = 96) -> None:
    """A split in the folder layout: scenes with the labels background, disc, polygon."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for index in range(count):
        image, labels = draw_scene(first_seed + index, size)
        image.save(folder / "images" / f"{index:03d}.png")
        labels.save(folder / "labels" / f"{index:03d}.png")
