"""Write data sets in our layouts: from exports of annotation tools, or from any other layout."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pointrend.data.checks import ensure_sound
from pointrend.data.classes import CLASSES_FILE, IGNORE
from pointrend.data.exports import FORMATS, format_named
from pointrend.data.images import IMAGE_SUFFIXES, image_size
from pointrend.data.layouts import LAYOUTS, find_samples, find_splits
from pointrend.data.problems import DatasetError
from pointrend.data.samples import InstanceTruth, Sample, SampleSet
from pointrend.data.segmentations import to_mask

VAL = 0.2
"""The ratio of images that become the split `val` where there is none."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Conversion:
    """What was written."""

    source: str
    """The name of the format or of the layout that was read."""
    images: Mapping[str, int]
    """The number of images of each split."""
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What was left out or decided."""


def convert_data(
    source: Path,
    out: Path,
    *,
    form: str = "auto",
    task: str = "semantic",
    val: float | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Write a data set: for "semantic" in the layout folder, for "instance" in the layout coco.

    Images are copied as they are. Splits of the source are kept; if it has one alone, images are drawn for `val`.

    Args:
        source: a folder, or the file of an export.
        out: a folder that is new or empty; it is whole or not there.
        form: a name in `FORMATS` or `LAYOUTS`; "auto" detects it.
        task: "semantic" or "instance".
        val: the ratio of the images for `val`, in [0, 1), if the source has no splits; 0 writes `train` alone.
        seed: of the draw.
        skip_bad: leave out images and objects that cannot be used.
        progress: called with what is done, the number of images done, and their total.

    Raises:
        DatasetError: the source is of no known format, or has files or objects that cannot be used.
    """
    source, out = Path(source), Path(out)
    if val is not None and not 0 <= val < 1:
        raise DatasetError(f"val must be a ratio in 0..1 below 1, got {val:g}")
    if not source.exists():
        raise DatasetError(f"{source}: no such file or folder")
    if source.suffix.lower() in (".zip", ".tar", ".gz", ".7z"):
        raise DatasetError(f"{source}: is an archive; unpack it and name the folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out}: exists and is not an empty folder; choose another")
    name, found, notes = _read(source, form, task)
    sound = {
        split: ensure_sound(samples, skip_bad=skip_bad, progress=_named(progress, f"checking {split}".strip())).samples
        for split, samples in found.items()
    }
    if left_out := sum(len(found[split].samples) - len(sound[split].samples) for split in found):
        notes = (*notes, f"{left_out} images that cannot be used are left out")
    splits = _with_val(sound, val, seed)
    with _whole_or_not(out) as folder:
        write = _write_semantic if task == "semantic" else _write_instances
        write(folder, splits, progress)
    classes = next(iter(splits.values())).class_names
    return Conversion(name, {split: len(samples.samples) for split, samples in splits.items()}, classes, notes)


def _read(source: Path, form: str, task: str) -> tuple[str, dict[str, SampleSet], tuple[str, ...]]:
    """Return the name of a source's format, its splits, and notes."""
    exported = None if form in LAYOUTS else format_named(form, source)
    if exported is not None:
        export = exported.read(source)
        return exported.title, export.splits(task), export.notes
    layout = None if form == "auto" else form
    if layout is None and (source.is_file() and source.suffix != ".json"):
        raise DatasetError(f"{source}: is of no known format; expected {_expected()}")
    try:
        name, names = find_splits(source, task=task, layout=layout)
    except DatasetError as error:
        raise DatasetError(f"{error}; or an export: {_expected()}") from error
    found, notes = {}, []
    for split in names:
        samples = find_samples(source, task=task, layout=name, split=split, labelled=False)
        if samples.metrics:
            found[split or ""] = samples
        else:
            notes.append(f"the split {split} has no labels and is left out")
    if not found:
        raise DatasetError(f"{source}: has no labels")
    return name, found, tuple(notes)


def _expected() -> str:
    return ", ".join(f"{form.hint} ({name})" for name, form in FORMATS.items())


def _with_val(found: Mapping[str, SampleSet], val: float | None, seed: int) -> dict[str, SampleSet]:
    """Return the splits by our names, with one for evaluation."""
    if len(found) > 1:
        if val is not None:
            raise DatasetError(f"--val is for sources without splits; this one has {', '.join(filter(None, found))}")
        return {split or "train": samples for split, samples in found.items()}
    (samples,) = found.values()
    count = round((VAL if val is None else val) * len(samples.samples))
    if not count and val != 0 and len(samples.samples) > 1:
        count = 1
    if not count:
        return {"train": samples}
    if count == len(samples.samples):
        raise DatasetError(f"{count} images are too few for train and val; use another ratio for val, such as 0")
    drawn = set(np.random.default_rng(seed).permutation(len(samples.samples))[:count].tolist())
    of_split: dict[str, list[Sample]] = {"train": [], "val": []}
    for index, sample in enumerate(samples.samples):
        of_split["val" if index in drawn else "train"].append(sample)
    return {split: replace(samples, samples=tuple(part)) for split, part in of_split.items()}


def _write_semantic(out: Path, splits: Mapping[str, SampleSet], progress: Progress | None) -> None:
    """Write images, palette images of labels, and the list of classes."""
    classes = next(iter(splits.values())).classes
    entries = [{"name": info.name, "color": list(info.color)} for info in classes]
    (out / CLASSES_FILE).write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    # Whole, because Pillow writes images of few colours with few bits a pixel, which have no room for IGNORE.
    colors = [*(info.color for info in classes), *[(0, 0, 0)] * (IGNORE - len(classes)), (255, 255, 255)]
    palette = [value for color in colors for value in color]
    for split, samples in splits.items():
        for sample, name, size in _copied(samples, out / split / "images", _named(progress, f"writing {split}")):
            labels = Image.fromarray(sample.annotations.truth(size))
            labels.putpalette(palette)
            path = out / split / "labels" / f"{Path(name).stem}.png"
            path.parent.mkdir(exist_ok=True)
            labels.save(path)


def _write_instances(out: Path, splits: Mapping[str, SampleSet], progress: Progress | None) -> None:
    """Write images, and a file of COCO's JSON a split with masks as RLE."""
    for split, samples in splits.items():
        content: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": index, "name": name} for index, name in enumerate(samples.class_names, start=1)],
        }
        for sample, name, size in _copied(samples, out / split, _named(progress, f"writing {split}")):
            number = len(content["images"]) + 1
            content["images"].append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
            content["annotations"] += _annotations(
                sample.annotations.truth(size), number, size, len(content["annotations"])
            )
        path = out / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def _annotations(truth: InstanceTruth, image: int, size: tuple[int, int], before: int) -> list[dict[str, Any]]:
    """Return the objects of an image as COCO's annotations; those without pixels are left out."""
    found: list[dict[str, Any]] = []
    for rle, label, crowd, (left, top, right, bottom) in zip(
        truth.masks, truth.classes.tolist(), truth.crowd.tolist(), truth.boxes.tolist(), strict=True
    ):
        area = int(to_mask(rle, size).sum())
        if area:
            found.append(
                {
                    "id": before + len(found) + 1,
                    "image_id": image,
                    "category_id": label + 1,
                    "segmentation": rle,
                    "area": area,
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": int(crowd),
                }
            )
    return found


def _copied(
    samples: SampleSet, folder: Path, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[Sample, str, tuple[int, int]]]:
    """Copy each image, and yield its sample, its new name and its size."""
    folder.mkdir(parents=True, exist_ok=True)
    names = _names(samples.samples)
    for done, (sample, name) in enumerate(zip(samples.samples, names, strict=True), start=1):
        shutil.copyfile(sample.image, folder / name)
        yield sample, name, image_size(sample.image)
        if progress is not None:
            progress(done, len(names))


def _names(samples: tuple[Sample, ...]) -> list[str]:
    """Return a file name for each image: its own, or with its folder's name where stems are the same.

    Raises:
        DatasetError: names are still the same, or of a kind that data sets do not have.
    """
    stems = Counter(sample.image.stem for sample in samples)
    names = [
        sample.image.name if stems[sample.image.stem] == 1 else f"{sample.image.parent.name}_{sample.image.name}"
        for sample in samples
    ]
    again = Counter(Path(name).stem for name in names)
    for sample, name in zip(samples, names, strict=True):
        if again[Path(name).stem] > 1:
            raise DatasetError(f"{sample.image}: another image has the same name without suffix; rename one of them")
        if sample.image.suffix.lower() not in IMAGE_SUFFIXES:
            raise DatasetError(f"{sample.image}: data sets have {', '.join(sorted(IMAGE_SUFFIXES))}; convert the image")
    return names


@contextmanager
def _whole_or_not(out: Path) -> Iterator[Path]:
    """Yield a folder that becomes `out` at the end, or is removed on an error."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=".pointrend-"))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp makes folders that only their owner may read
        if out.is_dir():
            out.rmdir()
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _named(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)
