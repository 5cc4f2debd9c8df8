"""The layouts of data sets. Each module in this folder defines its layouts in a dict `LAYOUTS`."""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from pointrend.data.finding import Layout, folders, missing_split
from pointrend.data.problems import DatasetError
from pointrend.data.samples import SampleSet

LAYOUTS: dict[str, Layout] = {
    name: layout
    for module in iter_modules(__path__)
    for name, layout in import_module(f"{__name__}.{module.name}").LAYOUTS.items()
}
"""All layouts by name."""


def find_samples(
    root: Path,
    *,
    task: str | None = None,
    layout: str | None = None,
    split: str | None = None,
    labelled: bool = True,
) -> SampleSet:
    """Find the files of one split.

    In the layouts folder, camvid, people, nuclei and instance-ids a split is a folder with `images/` and `labels/`:
    `root / split`, or `root` itself if `split` is None. In the others, `root` is the data set's folder (for coco and
    lvis also the annotation file) and `split` is needed.

    Args:
        root: the data set's folder.
        task: "semantic" or "instance"; None takes either, semantic if the folders fit both.
        layout: a name in `LAYOUTS`; None or "auto" detects it.
        split: for instance "train" or "val".
        labelled: False takes images without any labels too, as benchmarks' test splits are; their `metrics` are empty.

    Raises:
        DatasetError: an unknown layout or one of another task, missing or empty folders, unusable annotations or
            `classes.json`.
    """
    root = Path(root)
    annotation_file = root.suffix == ".json" and root.is_file() and task != "semantic"
    if not root.is_dir() and not annotation_file:
        raise DatasetError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
    of_task = {name: candidate for name, candidate in LAYOUTS.items() if task in (None, candidate.task)}
    if layout is None or layout == "auto":
        return _found(_detect(root, split, of_task, task), root, split, labelled=labelled)
    if layout not in LAYOUTS:
        near = difflib.get_close_matches(layout, of_task, n=1, cutoff=0)
        raise DatasetError(
            f"unknown layout {layout!r}, did you mean {near[0]!r}? Layouts are auto, {', '.join(of_task)}"
        )
    if layout not in of_task:
        raise DatasetError(
            f"layout {layout!r} is for {LAYOUTS[layout].task} segmentation; choose one for {task} segmentation:"
            f" {', '.join(of_task)}"
        )
    return _found(LAYOUTS[layout], root, split, labelled=labelled)


def _found(layout: Layout, root: Path, split: str | None, *, labelled: bool) -> SampleSet:
    try:
        return layout.find(root, split)
    except DatasetError:
        images = None if labelled else layout.unlabelled(root, split)
        if images is None:
            raise
        return images


def _detect(root: Path, split: str | None, layouts: dict[str, Layout], task: str | None) -> Layout:
    for layout in sorted(layouts.values(), key=lambda layout: (layout.general, layout.task != "semantic")):
        if layout.matches(root, split):
            return layout
    folder = root / split if split else root
    if split and not folder.is_dir():
        raise missing_split(root, split, folders(root))
    splits = [name for name in folders(root) if (root / name / "images").is_dir()]
    if splits and not split:
        raise DatasetError(f"{root}: has several splits, give one of them: {', '.join(splits)}")
    *hints, last = [
        f"{layout.hint} ({name})"
        for name, layout in sorted(layouts.items(), key=lambda item: not item[1].general)
        if layout.hint
    ]
    kind = "instance data set" if task == "instance" else "data set"
    raise DatasetError(f"{folder}: no {kind} found; expected {', '.join(hints)} or {last}")
