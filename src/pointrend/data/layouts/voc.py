"""Pascal VOC: `JPEGImages/` and `SegmentationClass/`; a split is a list `ImageSets/Segmentation/SPLIT.txt`."""

from __future__ import annotations

from pathlib import Path

from pointrend.data.classes import VOC
from pointrend.data.finding import Layout, image_files, missing_split, pair_labels
from pointrend.data.problems import DatasetError
from pointrend.data.samples import SampleSet


def _matches(root: Path, split: str | None) -> bool:
    return (root / "JPEGImages").is_dir() and (root / "SegmentationClass").is_dir()


def _find(root: Path, split: str | None) -> SampleSet:
    lists = root / "ImageSets" / "Segmentation"
    splits = sorted(path.stem for path in lists.glob("*.txt"))
    if split not in splits:
        raise missing_split(root, split, splits)
    wanted = set((lists / f"{split}.txt").read_text(encoding="utf-8").split())
    images, labels = (
        {stem: path for stem, path in image_files(root / folder).items() if stem in wanted}
        for folder in ("JPEGImages", "SegmentationClass")
    )
    if missing := sorted(wanted - images.keys() - labels.keys()):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DatasetError(f"{lists / f'{split}.txt'}: lists {missing[0]}{more} without image and label")
    values = range(len(VOC))
    return pair_labels("voc", images, labels, VOC, dict(zip(values, values, strict=True)), valid=values)


LAYOUTS = {"voc": Layout("semantic", _find, _matches, hint="JPEGImages/ and SegmentationClass/")}
