"""What a folder without any known layout has that comes nearest to one."""

from __future__ import annotations

from pathlib import Path

from pointrend.data.finding import folders

_NAMES = {
    "images": ("image", "img", "imgs", "photos", "photo", "pictures", "rgb", "frames", "inputs", "input", "jpegimages"),
    "labels": (
        "label", "mask", "masks", "annotation", "annotations", "ann", "anns", "gt", "groundtruth", "ground_truth",
        "segmentation", "segmentations", "targets", "target", "labelimages", "segmentationclass",
    ),
}  # fmt: skip
"""Names that others give to the folders of our layouts."""
_SHOWN = 5


def nearest(folder: Path) -> str:
    """Return what was found in a folder as the start of a sentence that ends in what is expected; "" if nothing."""
    if near := export_hint(folder):
        return f"{near}; otherwise "
    if archives := sorted(path.name for path in folder.glob("*.zip")):
        return f"found {archives[0]}: unpack it first; "
    where = [folder, *(folder / name for name in folders(folder))]
    for place in where:
        if near := _renamed(place):
            return f"{'' if place == folder else f'in {place.name}/ '}{near} "
    there = sorted(f"{path.name}{'/' * path.is_dir()}" for path in folder.glob("*") if not path.name.startswith("."))
    more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    return f"found {', '.join(there[:_SHOWN])}{more}; " if there else "found nothing in it; "


def hint(folder: Path) -> str:
    """Return what a folder looks like although its layout is another: an export, or folders of other names; or ""."""
    return export_hint(folder) or _renamed(folder)


def _renamed(folder: Path) -> str:
    """Return a question if a folder has those of a layout by other names, or an empty text."""
    names = folders(folder)
    had, wanted = [], []
    for ours, others in _NAMES.items():
        found = [name for name in names if name == ours] or [name for name in names if name.lower() in (ours, *others)]
        if not found:
            return ""
        had.append(f"{found[0]}/")
        wanted.append(f"{ours}/")
    return "" if had == wanted else f"found {' and '.join(had)}: did you mean {' and '.join(wanted)}?"


def export_hint(folder: Path) -> str:
    """Return what to do if a folder looks like the export of an annotation tool, or an empty text."""
    from pointrend.data.exports import detected  # which finds samples itself

    name = detected(folder)
    return f"looks like an export of {name}: pointrend data convert {folder} OUT makes a data set of it" if name else ""
