"""Writing results, and knowing them again."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, PngImagePlugin

from pointrend.data.images import pixel_limit
from pointrend.files import write_atomically

SOFTWARE = "pointrend"
"""Stands in every file that is written, so that files of others are not mistaken for ours."""

CSV_HEADER = "id,class,score,area,x0,y0,x1,y1,centroid_x,centroid_y"
"""A table has no place for a mark that its readers would not stumble over; its first line is known instead."""


def output_paths(folder: Path, stem: str | None, suffixes: Sequence[str], *, photo: Path | None) -> list[Path]:
    """Where the files of a result go.

    Args:
        folder: of the results.
        stem: how the names begin; None takes the photograph's, or "image" without one.
        suffixes: what is appended to the stem.
        photo: the photograph's file, which is not to be replaced.

    Raises:
        ValueError: the photograph itself would be replaced, or `stem` is no plain name.
    """
    if stem is None:
        stem = "image" if photo is None else photo.stem
    if not stem or Path(stem).name != stem:
        raise ValueError(f"stem must be a file name without folders, got {stem!r}")
    paths = [folder / f"{stem}{suffix}" for suffix in suffixes]
    if photo is not None and photo.resolve() in {path.resolve() for path in paths}:
        raise ValueError(f"{photo}: the result would replace the photograph; choose another folder or stem")
    return paths


def json_bytes(summary: Mapping[str, object]) -> bytes:
    """A summary as JSON that says whose it is."""
    text = json.dumps({"software": SOFTWARE, **summary}, indent=2, ensure_ascii=False) + "\n"
    # Bytes of a file name that are not UTF-8 are lone surrogates in Python; this writes them as JSON escapes.
    return text.encode(errors="backslashreplace")


def is_ours(path: Path) -> bool:
    """Whether a file was written by this package; False for one that cannot be read."""
    try:
        if path.suffix.lower() == ".json":
            content = json.loads(path.read_bytes())
            return isinstance(content, dict) and content.get("software") == SOFTWARE
        if path.suffix.lower() == ".csv":
            with path.open("rb") as file:
                return file.readline().strip() == CSV_HEADER.encode()
        with pixel_limit(), Image.open(path) as image:
            return image.format == "PNG" and image.info.get("Software") == SOFTWARE
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG that says whose it is."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", SOFTWARE)
    made = io.BytesIO()  # written at once: by the block, Pillow takes twice as long
    if picture.mode == "RGB":  # photographs: looking for runs of bytes alone costs no size, and much less time
        picture.save(made, format="PNG", pnginfo=info, compress_type=zlib.Z_RLE)
    else:
        picture.save(made, format="PNG", pnginfo=info, compress_level=3)
    write_atomically(path, made.getvalue())
