"""Hand-made exports of annotation tools: a photograph of 6 x 8 pixels with a house and a door in it.

Every export draws the same: a house of 4 x 5 pixels, rows 1 to 4 and columns 2 to 6, and a door of 2 x 2 pixels in it,
rows 3 and 4 and columns 3 and 4.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from data_files import write_image
from PIL import Image

SIZE = (6, 8)
HOUSE = (2, 1, 7, 5)
"""left, top, right, bottom."""
DOOR = (3, 3, 5, 5)


def filled(box: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    left, top, right, bottom = box
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def house_labels(house: int, door: int) -> np.ndarray:
    """The label map (6, 8) uint8."""
    labels = np.zeros(SIZE, np.uint8)
    labels[filled(HOUSE)] = house
    labels[filled(DOOR)] = door
    return labels


def corners(box: tuple[int, int, int, int]) -> list[list[int]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def flat(box: tuple[int, int, int, int]) -> list[int]:
    return [value for corner in corners(box) for value in corner]


LABELS_XML = """<meta><task><labels>
<label><name>house</name><color>#0A141E</color></label><label><name>door</name><color>#ff0000</color></label>
</labels></task></meta>"""


def cvat_polygon(label: str, box: tuple[int, int, int, int], **more: object) -> str:
    points = ";".join(f"{x}.00,{y}.00" for x, y in corners(box))
    return f'<polygon label="{label}" points="{points}" {" ".join(f"{k}={str(v)!r}" for k, v in more.items())}/>'


def cvat_mask(label: str, box: tuple[int, int, int, int], rle: str) -> str:
    left, top, right, bottom = box
    return (
        f'<mask label="{label}" rle="{rle}" left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"/>'
    )


def write_cvat(root: Path, shapes: Sequence[str] | None = None, *, name: str = "a.png", head: str = "") -> Path:
    write_image(root / "images" / "a.png", size=SIZE)
    inside = shapes if shapes is not None else [cvat_polygon("house", HOUSE), cvat_polygon("door", DOOR)]
    image = f'<image id="0" name="{name}" width="8" height="6">{"".join(inside)}</image>'
    content = f"<annotations><version>1.1</version>{LABELS_XML}{image}</annotations>"
    text = f'<?xml version="1.0" encoding="utf-8"?>{head}{content}'
    (root / "annotations.xml").write_text(text)
    return root


def labelme_shape(label: object, points: object, **more: object) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}, **more}


def write_labelme(
    root: Path, shapes: Sequence[dict[str, Any]] | None = None, *, stem: str = "a", **more: object
) -> Path:
    write_image(root / f"{stem}.png", size=SIZE)
    drawn = [labelme_shape("door", corners(DOOR)), labelme_shape("house", corners(HOUSE))]
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": drawn if shapes is None else shapes,
        "imagePath": f"{stem}.png",
        "imageData": None,
        "imageHeight": 6,
        "imageWidth": 8,
    }
    (root / f"{stem}.json").write_text(json.dumps(content | more))
    return root


def png_text(mask: np.ndarray) -> str:
    """A mask as labelme has it."""
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def studio_polygon(label: str, box: tuple[int, int, int, int]) -> dict[str, Any]:
    points = [[100 * x / SIZE[1], 100 * y / SIZE[0]] for x, y in corners(box)]
    return studio_result("polygonlabels", {"points": points, "closed": True, "polygonlabels": [label]})


def studio_result(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    sizes = {"original_width": 8, "original_height": 6, "image_rotation": 0}
    return {"id": "x", "type": kind, "from_name": "label", "to_name": "image", "value": value, **sizes}


def studio_brush(label: str, mask: np.ndarray) -> dict[str, Any]:
    return studio_result("brushlabels", {"format": "rle", "rle": brush_rle(mask), "brushlabels": [label]})


def brush_rle(mask: np.ndarray) -> list[int]:
    """rle-pack of the RGBA bytes of a mask, with runs of one value and literal values in fields of several lengths."""
    values = np.stack([np.zeros(mask.size), mask.ravel(), np.zeros(mask.size), 255 * mask.ravel()], axis=1)
    values = values.astype(np.uint8).ravel().tolist()
    bits = f"{len(values):032b}{7:05b}{3:04b}{4:04b}{7:04b}{15:04b}"
    place = 0
    while place < len(values):
        length = next((i for i, v in enumerate(values[place:]) if v != values[place]), len(values) - place)
        if length > 20:
            field, width = (2, 8) if length <= 256 else (3, 16)
            bits += f"1{field:02b}{length - 1:0{width}b}{values[place]:08b}"
        else:  # literal, in the shortest field that holds it
            length = min(length, 16)
            bits += f"0{0:02b}{length - 1:04b}" + "".join(f"{value:08b}" for value in values[place : place + length])
        place += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def write_studio(
    root: Path, results: Sequence[dict[str, Any]] | None = None, *, image: str = "/data/upload/1/0a1b2c3d-a.png"
) -> Path:
    write_image(root / "images" / "a.png", size=SIZE)
    drawn = [studio_polygon("house", HOUSE), studio_polygon("door", DOOR)] if results is None else results
    old = {"id": 1, "was_cancelled": False, "result": [studio_polygon("house", DOOR)]}
    annotations = [old, {"id": 2, "was_cancelled": False, "result": drawn}, old | {"was_cancelled": True}]
    task = {"id": 7, "annotations": annotations, "data": {"image": image}}
    (root / "project-1.json").write_text(json.dumps([task]))
    return root


def yolo_line(label: int, box: tuple[int, int, int, int]) -> str:
    return f"{label} " + " ".join(f"{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}" for x, y in corners(box))


def write_yolo(root: Path, lines: Sequence[str] | None = None, **more: object) -> Path:
    """images/train and images/val with labels/, as Ultralytics has it; the image of val shows nothing."""
    for split in ("train", "val"):
        write_image(root / "images" / split / f"{split}.png", size=SIZE)
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
    drawn = [yolo_line(1, HOUSE), yolo_line(0, DOOR)] if lines is None else lines
    (root / "labels" / "train" / "train.txt").write_text("\n".join(drawn) + "\n")
    content = {"train": "images/train", "val": "images/val", "names": ["door", "house"], **more}
    (root / "data.yaml").write_text(json.dumps(content))
    return root


def write_roboflow(root: Path) -> Path:
    """COCO as Roboflow exports it: a category above all others, `train/` and `valid/`."""
    for split in ("train", "valid"):
        write_image(root / split / f"{split}.png", size=SIZE)
        boxes = enumerate(((2, HOUSE), (1, DOOR)), start=1)
        content = {
            "images": [{"id": 0, "file_name": f"{split}.png", "height": 6, "width": 8}],
            "categories": [
                {"id": 0, "name": "homes", "supercategory": "none"},
                {"id": 1, "name": "door", "supercategory": "homes"},
                {"id": 2, "name": "house", "supercategory": "homes"},
            ],
            "annotations": [
                {"id": number, "image_id": 0, "category_id": category, "segmentation": [flat(box)], "iscrowd": 0}
                for number, (category, box) in boxes
            ],
        }
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    return root


COLORS = {"background": (0, 0, 0), "house": (10, 20, 30), "door": (255, 0, 0)}


def write_colored(
    path: Path, labels: np.ndarray, colors: Sequence[tuple[int, int, int]] = tuple(COLORS.values())
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(colors, np.uint8)[labels]).save(path)


def write_labelmap(root: Path, *, split: str = "default") -> Path:
    """CVAT's masks: images, a colour a class, a colour an object, labelmap.txt."""
    write_image(root / "JPEGImages" / "a.png", size=SIZE)
    write_colored(root / "SegmentationClass" / "a.png", house_labels(1, 2))
    objects = house_labels(1, 2)
    objects[0, 0] = 3  # an object of the background's colour
    write_colored(root / "SegmentationObject" / "a.png", objects, [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)])
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / f"{split}.txt").write_text("a\n")
    lines = [f"{name}:{','.join(map(str, color))}::" for name, color in COLORS.items()]
    (root / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *lines, ""]))
    return root
