"""Pascal VOC: `JPEGImages/` and `SegmentationClass/`; a split is a list `ImageSets/Segmentation/SPLIT.txt`.

The split `trainaug` adds the labels that Hariharan et al. drew for further images (SBD, "Semantic Contours from Inverse
Detectors", 2011), as label images in `SegmentationClassAug/`. Its list is `trainaug.txt`, or `train.txt` and `aug.txt`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pointrend.data.classes import VOC
from pointrend.data.color_table import LABELMAP_FILE
from pointrend.data.finding import Layout, image_files, missing_split, pair_labels, without_labels
from pointrend.data.problems import DatasetError
from pointrend.data.samples import SampleSet

AUGMENTED = "trainaug"
_PARTS = ("train", "aug")
"""The lists that together are `AUGMENTED`."""
LISTS = Path("ImageSets", "Segmentation")
"""The folder of lists of splits."""


def _matches(root: Path, split: str | None) -> bool:
    there = (root / "JPEGImages").is_dir() and (root / "SegmentationClass").is_dir()
    return there and not (root / LABELMAP_FILE).is_file()  # which lists classes of one's own


def _find(root: Path, split: str | None) -> SampleSet:
    paths = _lists(root, split)
    wanted = listed(paths)
    images = {stem: path for stem, path in image_files(root / "JPEGImages").items() if stem in wanted}
    labels = {stem: path for stem, path in _labels(root, split).items() if stem in wanted}
    if missing := sorted(wanted - images.keys() - labels.keys()):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DatasetError(f"{paths[0]}: lists {missing[0]}{more} without image and label")
    values = range(len(VOC))
    found = pair_labels("voc", images, labels, VOC, dict(zip(values, values, strict=True)), valid=values)
    return replace(found, submission="voc")


def _find_unlabelled(root: Path, split: str | None) -> SampleSet | None:
    wanted = listed(_lists(root, split))
    if any((root / "SegmentationClass" / f"{stem}.png").exists() for stem in wanted):
        return None
    images = {stem: path for stem, path in image_files(root / "JPEGImages").items() if stem in wanted}
    found = without_labels("voc", images, VOC, range(len(VOC))) if images.keys() == wanted else None
    return None if found is None else replace(found, submission="voc")


def _lists(root: Path, split: str | None) -> list[Path]:
    """Return the files that list the images of a split."""
    folder = root / LISTS
    if split not in (there := _splits(root)):
        raise missing_split(root, split, there)
    whole = folder / f"{split}.txt"
    return [whole] if whole.is_file() else [folder / f"{part}.txt" for part in _PARTS]


def _splits(root: Path) -> list[str]:
    there = {path.stem for path in (root / LISTS).glob("*.txt")}
    if there.issuperset(_PARTS):
        there.add(AUGMENTED)
    return sorted(there)


def listed(paths: list[Path]) -> set[str]:
    """Return the names of images in lists. Lines are names, or as in DeepLab's lists paths of image and labels."""
    lines = [line.split() for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return {Path(words[0]).stem if "/" in words[0] else words[0] for words in lines if words}


def _labels(root: Path, split: str | None) -> dict[str, Path]:
    """Return the label images by name. VOC's own come before those of SBD, which are less exact."""
    labels = image_files(root / "SegmentationClass")
    if split != AUGMENTED:
        return labels
    folder = root / "SegmentationClassAug"
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; the split {split!r} needs the label images of SBD there")
    return image_files(folder) | labels


LAYOUTS = {
    "voc": Layout(
        "semantic",
        _find,
        _matches,
        unlabelled=_find_unlabelled,
        hint="JPEGImages/ and SegmentationClass/",
        splits=_splits,
    )
}
