"""Encode and name the files of results, and recognise our own files."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, PngImagePlugin

from pointrend.data.images import pixel_limit
from pointrend.errors import PointRendError

SOFTWARE = "pointrend"
"""Written into every file, so that foreign files are not mistaken for ours."""

CSV_HEADER = "id,class,score,area,x0,y0,x1,y1,centroid_x,centroid_y"
"""CSV has no metadata; our files are recognised by this header."""


def output_paths(folder: Path, stem: str | None, suffixes: Sequence[str], *, image: Path | None) -> list[Path]:
    """Return the paths of a result's files; see `Result.save`."""
    if stem is None:
        stem = "image" if image is None else image.stem
    if not stem or Path(stem).name != stem:
        raise PointRendError(f"stem must be a file name without folders, got {stem!r}")
    paths = [folder / f"{stem}{suffix}" for suffix in suffixes]
    if image is not None and image.resolve() in {path.resolve() for path in paths}:
        raise PointRendError(f"{image}: the result would replace the image; choose another folder or stem")
    return paths


def json_bytes(summary: Mapping[str, object]) -> bytes:
    """Return a summary as JSON, marked as written by this package."""
    text = json.dumps({"software": SOFTWARE, **summary}, indent=2, ensure_ascii=False) + "\n"
    # Bytes of a file name that are not UTF-8 are lone surrogates in Python, which become JSON escapes.
    return text.encode(errors="backslashreplace")


def is_ours(path: Path) -> bool:
    """Return whether a file was written by this package; False if it cannot be read."""
    try:
        if path.suffix.lower() == ".json":
            content = json.loads(path.read_bytes())
            return isinstance(content, dict) and content.get("software") == SOFTWARE
        if path.suffix.lower() == ".csv":
            with path.open("rb") as file:
                return file.readline().strip() == CSV_HEADER.encode()
        with pixel_limit(), Image.open(path) as image:
            return image.format == "PNG" and image.info.get("Software") == SOFTWARE
    except (OSError, ValueError, SyntaxError, RecursionError, Image.DecompressionBombError):
        return False


def photo_of(path: Path) -> str | None:
    """Return the photo that a summary in JSON, which this package wrote, is of; None for other files."""
    if path.suffix.lower() != ".json":
        return None
    photo = json.loads(path.read_bytes()).get("image")
    return photo if isinstance(photo, str) else None


def png_bytes(image: Image.Image) -> bytes:
    """Return an image as PNG, marked as written by this package."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", SOFTWARE)
    content = io.BytesIO()  # written at once: block by block, Pillow takes twice as long
    # Overlays compress as well, and much faster, by run-length matches alone.
    how = {"compress_type": zlib.Z_RLE} if image.mode == "RGB" else {"compress_level": 3}
    image.save(content, format="PNG", pnginfo=info, **how)
    return content.getvalue()
