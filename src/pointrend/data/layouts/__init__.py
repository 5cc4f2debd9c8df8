"""The layouts of data sets. Each module in this folder defines its layouts in a dict `LAYOUTS`."""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from pointrend.data.finding import Layout, folders, missing_split
from pointrend.data.nearest import export_hint, hint, nearest
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

    In the layouts folder, colors, camvid, people, nuclei and instance-ids a split is a folder with `images/` and
    `labels/`: `root / split`, or `root` itself if `split` is None. In the others, `root` is the data set's
    folder (for coco, coco-semantic and lvis also the annotation file) and `split` is needed.

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
    annotation_file = root.suffix == ".json" and root.is_file()
    if not root.is_dir() and not annotation_file:
        raise DatasetError(f"{root}: {'is not a folder' if root.exists() else 'no such folder'}")
    if layout is not None and layout != "auto":
        return _found(layout_named(layout, task), root, split, labelled=labelled)
    return _found(_detect(root, split, task), root, split, labelled=labelled)


def find_splits(root: Path, *, task: str | None = None, layout: str | None = None) -> tuple[str, list[str | None]]:
    """Return the name of a folder's layout and the names of its splits; [None] if the folder is one split itself.

    Raises:
        DatasetError: no layout is found, or an unknown one or one of another task was named.
    """
    root = Path(root)
    if not root.exists():
        raise DatasetError(f"{root}: no such folder")
    if layout is not None and layout != "auto":
        return layout, _splits(layout_named(layout, task), root)
    for candidate in _by_precedence(task):
        splits = _splits(candidate, root)
        if any(candidate.matches(root, split) for split in splits):
            return next(name for name, one in LAYOUTS.items() if one is candidate), splits
    raise DatasetError(_nothing(root, task))


def _splits(layout: Layout, root: Path) -> list[str | None]:
    return [*layout.splits(root)] or [None]


def layout_named(name: str, task: str | None = None) -> Layout:
    """Return the layout of this name; raise `DatasetError` if there is none, or it is of another task."""
    of_task = _of_task(task)
    if name not in LAYOUTS:
        near = difflib.get_close_matches(name, of_task, n=1, cutoff=0)
        raise DatasetError(f"unknown layout {name!r}, did you mean {near[0]!r}? Layouts are auto, {', '.join(of_task)}")
    if name not in of_task:
        raise DatasetError(
            f"layout {name!r} is for {LAYOUTS[name].task} segmentation; choose one for {task} segmentation:"
            f" {', '.join(of_task)}"
        )
    return LAYOUTS[name]


def _of_task(task: str | None) -> dict[str, Layout]:
    return {name: layout for name, layout in LAYOUTS.items() if task in (None, layout.task)}


def _by_precedence(task: str | None) -> list[Layout]:
    """Return the layouts in the order in which they are tried; equal ones by their module's and their own place."""
    return sorted(_of_task(task).values(), key=lambda layout: (layout.general, layout.task != "semantic"))


def _found(layout: Layout, root: Path, split: str | None, *, labelled: bool) -> SampleSet:
    try:
        return layout.find(root, split)
    except DatasetError as error:
        images = None if labelled else layout.unlabelled(root, split)
        if images is not None:
            return images
        if layout.general and (near := hint(root / (split or "")) or hint(root)):
            raise DatasetError(f"{error}; {near}") from error
        raise


def _detect(root: Path, split: str | None, task: str | None) -> Layout:
    for layout in _by_precedence(task):
        if layout.matches(root, split):
            return layout
    if not root.is_dir():
        raise DatasetError(_nothing(root, task))
    folder = root / split if split else root
    if split and not folder.is_dir():
        error, near = missing_split(root, split, folders(root)), export_hint(root)
        raise DatasetError(f"{error}; {near}") if near else error
    splits = [name for name in folders(root) if (root / name / "images").is_dir()]
    if splits and not split:
        raise DatasetError(f"{root}: has several splits, give one of them: {', '.join(splits)}")
    raise DatasetError(_nothing(folder, task))


def _nothing(folder: Path, task: str | None) -> str:
    """Describe what was expected of a folder without any layout, and what it has that comes nearest."""
    *hints, last = [
        f"{layout.hint} ({name})"
        for name, layout in sorted(_of_task(task).items(), key=lambda one: (not one[1].general, len(one[1].hint)))
        if layout.hint
    ]
    kind = "instance data set" if task == "instance" else "data set"
    return f"{folder}: no {kind} found; {nearest(folder)}expected {', '.join(hints)} or {last}"
