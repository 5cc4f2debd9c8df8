"""What a folder has: its layout, its splits, their sizes, contents and problems."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointrend.data.census import ensure_learnable, remarks
from pointrend.data.checks import Checked, check_dataset, shared_images
from pointrend.data.layouts import LAYOUTS, find_samples, find_splits
from pointrend.data.problems import NO_IMAGE, DatasetError
from pointrend.data.samples import Sample, SampleSet

_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class SplitOverview:
    """What a split has."""

    name: str
    """Empty if the folder is the only split."""
    checked: Checked | None = None
    """None: it cannot be read at all."""
    error: str = ""
    """Why it cannot be read, or nothing be learned from it."""
    remarks: tuple[str, ...] = ()
    """What its owner should know, though it does no harm."""

    @property
    def labelled(self) -> bool:
        """Whether its images have labels."""
        return self.checked is not None and bool(self.checked.samples.metrics)

    @property
    def sound(self) -> bool:
        """Whether it can be used as it is."""
        harmful = () if self.checked is None else [one for one in self.checked.problems if one.kind != NO_IMAGE]
        return not self.error and not harmful

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return (H, W) of the smallest and the largest image, and the median height and width between; {} if none."""
        sizes = () if self.checked is None else self.checked.sizes
        if not sizes:
            return {}
        ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
        height, width = np.median(np.array(sizes), axis=0)
        return {"smallest": ordered[0], "median": (round(height), round(width)), "largest": ordered[-1]}


@dataclass(frozen=True)
class Overview:
    """What a data set has."""

    root: Path
    layout: str
    task: str
    splits: tuple[SplitOverview, ...]

    @property
    def sound(self) -> bool:
        """Whether all splits can be used as they are, and together."""
        return all(split.sound for split in self.splits) and not self.between()

    def between(self) -> list[str]:
        """Return a line for each thing that is wrong between splits: other classes, images of `train` in `val`."""
        found = {split.name: split.checked.samples for split in self.splits if split.checked is not None}
        first, *others = found or [""]
        lines = [
            f"{name} has other classes than {first}: {_differing(found[first], found[name])}"
            for name in others
            if found[name].class_names != found[first].class_names
        ]
        if {"train", "val"} <= found.keys() and (shared := shared_images(found["train"], found["val"])):
            more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            lines.append(f"{shared[0]}{more}: in train and in val")
        return lines


def _differing(first: SampleSet, second: SampleSet) -> str:
    """Return the classes that one of two splits has alone, for a message."""
    pairs = ((second, first, "more"), (first, second, "fewer"))
    lists = [([name for name in a.class_names if name not in b.class_names], word) for a, b, word in pairs]
    return ", ".join(f"{word} {', '.join(names[:5])}" for names, word in lists if names) or "in another order"


def overview(
    root: Path,
    *,
    task: str | None = None,
    layout: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Overview:
    """Find the splits of a folder and read their files.

    Args:
        root: the data set's folder.
        task, layout: as in `find_samples`.
        progress: called with a split's name, the number of images done, and their total.

    Raises:
        DatasetError: no layout is found. What is wrong with one split is in the result.
    """
    name, splits = find_splits(root, task=task, layout=layout)

    def checked(split: str | None) -> SplitOverview:
        title = split or ""
        try:
            samples = find_samples(root, task=LAYOUTS[name].task, layout=name, split=split, labelled=False)
        except DatasetError as error:
            return SplitOverview(title, error=str(error))
        found = check_dataset(
            samples, progress=None if progress is None else lambda done, total: progress(title or "files", done, total)
        )
        if not samples.metrics:
            return SplitOverview(title, found)
        shown_name = title or str(root)
        return SplitOverview(title, found, _unlearnable(shown_name, found), tuple(remarks(shown_name, found.census)))

    return Overview(root, name, LAYOUTS[name].task, tuple(map(checked, splits)))


def _unlearnable(name: str, found: Checked) -> str:
    """Return why nothing can be learned from a split, or an empty text. Splits for evaluation may lack classes."""
    try:
        ensure_learnable(name, found.census, allow_empty_classes=name in ("val", "valid", "validation", "test"))
    except DatasetError as error:
        return str(error)
    return ""


def chosen_samples(splits: Sequence[SplitOverview], count: int) -> list[tuple[str, Sample]]:
    """Return samples to look at, with the names of their splits, spread over the classes.

    The class that was shown least so far comes next, by one of the images that show it: they are walked through in
    steps of the golden ratio, so that the choice is spread over the files, and the same at every call.
    """
    pool = [
        (split.name, sample, shown)
        for split in splits
        if split.labelled and split.checked is not None
        for sample, shown in zip(split.checked.samples.samples, split.checked.shown, strict=True)
    ]
    left = list(range(len(pool)))
    times: dict[int, int] = dict.fromkeys(sorted({label for _, _, shown in pool for label in shown}), 0)
    chosen: list[int] = []
    while left and len(chosen) < count:
        of_class: dict[int, list[int]] = {}
        for index in left:
            for label in pool[index][2]:
                of_class.setdefault(label, []).append(index)
        if of_class:
            rarest = min(of_class, key=lambda label: (times[label], len(of_class[label]), label))
            fitting = of_class[rarest]
        else:
            fitting = left
        taken = fitting[int((len(chosen) + 0.5) * _GOLDEN % 1 * len(fitting))]
        for label in pool[taken][2]:
            times[label] += 1
        left.remove(taken)
        chosen.append(taken)
    return [(pool[index][0], pool[index][1]) for index in sorted(chosen)]
