"""Masks of a file of results in COCO's format, as ids of objects of each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from pointrend.data.json_files import read_json
from pointrend.errors import PointRendError, shown
from pointrend.refining.masks import Given, of_labels


def coco_ids(file: Path, photos: Sequence[Path]) -> Callable[[Path], tuple[Any, str | None]]:
    """Return a function that gives the objects of an image's file, or why there are none.

    Args:
        file: a list of results with `image_id`, `segmentation` (RLE or polygons, with `size`), and maybe `score`; or a
            file of annotations, with `images` and `annotations`.
        photos: of which the results are; without `images` the stem of a file is its id.

    Raises:
        PointRendError: the file is of another form, or of no image.
    """
    content = read_json(file)
    listed = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(listed, list) or not all(isinstance(one, dict) and "segmentation" in one for one in listed):
        raise PointRendError(f"{file}: expected COCO results, a list of objects with image_id and segmentation")
    names = {}
    if isinstance(content, dict):
        names = {str(image.get("id")): Path(str(image.get("file_name"))).stem for image in content.get("images", [])}
    objects: dict[str, list[dict[str, Any]]] = {}
    for one in listed:
        key = str(one.get("image_id"))
        stem = names.get(key, key)
        objects.setdefault(stem.lstrip("0") if stem.isdigit() else stem, []).append(one)

    def found(photo: Path) -> tuple[Any, str | None]:
        stem = photo.stem.lstrip("0") if photo.stem.isdigit() else photo.stem
        if stem not in objects:
            return None, f"{photo}: {file.name} has no object of this image"
        try:
            return _layered(objects[stem], photo), None
        except (KeyError, TypeError, ValueError) as error:
            return None, f"{photo}: its objects in {file.name} cannot be read ({shown(str(error))})"

    if not any(found(photo)[1] is None for photo in photos):
        raise PointRendError(
            f"{file}: no object is of these images; its first image_id is {shown(next(iter(objects), ''))}"
        )
    return found


def _layered(objects: list[dict[str, Any]], photo: Path) -> Given:
    """Return objects as ids 1, 2, ... in their order; where several overlap, the one of the best score is on top."""
    from PIL import Image

    with Image.open(photo) as image:
        width, height = image.size
    ids = np.zeros((height, width), np.int32)
    for number in sorted(range(len(objects)), key=lambda index: float(objects[index].get("score", 1.0))):
        coded = objects[number]["segmentation"]
        if isinstance(coded, list):
            coded = rle.merge(rle.frPyObjects(coded, height, width))
        elif isinstance(coded["counts"], list):
            coded = rle.frPyObjects(coded, *coded["size"])
        mask = rle.decode(coded)
        if mask.shape != ids.shape:
            raise PointRendError(f"a mask is {mask.shape[0]} x {mask.shape[1]}, the image {height} x {width}")
        ids[mask > 0] = number + 1
    return of_labels(ids, "ids", ())
