"""Folders of predictions in the form in which the benchmark of a data set takes them."""

from __future__ import annotations

import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from pointrend.data import Sample, SampleSet
from pointrend.data.json_files import read_json
from pointrend.errors import PointRendError
from pointrend.files import write_atomically
from pointrend.results import InstanceResult, Result, SemanticResult, is_ours
from pointrend.results.files import json_bytes, png_bytes

MANIFEST = "submission.json"
"""Lists the files of a submission, so that they can be told from others. Benchmarks do not need it."""
_STAGING = ".pointrend-"

Take = Callable[[Sample, Any], None]
"""Takes the result of an image."""


class Form(ABC):
    """Writes results as a benchmark takes them.

    Args:
        folder: where, empty.
        samples: the split.
    """

    result: ClassVar[type[Result]]
    """What it can write."""

    def __init__(self, folder: Path, samples: SampleSet) -> None:
        self.folder = folder
        self.samples = samples

    @abstractmethod
    def add(self, sample: Sample, result: Any) -> None:
        """Write the result of one image."""

    def close(self) -> None:  # noqa: B027 - most forms have nothing there
        """Write what follows the last image."""

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class LabelImages(Form):
    """An 8-bit PNG for each image, of its name, whose values are those of the data set's own label images."""

    result = SemanticResult
    inside: ClassVar[str] = ""
    """The folder of the files."""

    def add(self, sample: Sample, result: SemanticResult) -> None:
        """Write the label image of one image."""
        values = np.array(self.samples.label_values or range(len(self.samples.classes)), np.uint8)
        image = self._image(values[result.labels])
        self._write(f"{self.inside}{sample.image.stem}.png", png_bytes(image))

    def _image(self, values: np.ndarray) -> Image.Image:
        return Image.fromarray(values)


class VocImages(LabelImages):
    """Palette images in the folder that VOC's server expects, of its competition 6 (data beside VOC's own)."""

    inside = "results/VOC2012/Segmentation/comp6_test_cls/"

    def _image(self, values: np.ndarray) -> Image.Image:
        image = Image.fromarray(values)
        image.putpalette([value for info in self.samples.classes for value in info.color])
        return image


class CocoResults(Form):
    """One file `results.json`, COCO's list of objects, with the data set's ids of images and categories and RLE."""

    result = InstanceResult
    _separator = "["

    def add(self, sample: Sample, result: InstanceResult) -> None:
        """Append the objects of one image."""
        # Image by image, because the objects of COCO's 5000 images are too many to keep.
        for one in result.coco(sample.image_id, self.samples.category_ids):
            self._append(f"{self._separator}{json.dumps(one)}")
            self._separator = ",\n"

    def close(self) -> None:
        """End the list, which is empty if there was no object."""
        self._append("[]\n" if self._separator == "[" else "]\n")

    def _append(self, text: str) -> None:
        with (self.folder / "results.json").open("a", encoding="utf-8") as file:
            file.write(text)


class CityscapesInstances(Form):
    """A text file for each image with a line for each object, its mask, label id and score; masks are in `masks/`."""

    result = InstanceResult

    def add(self, sample: Sample, result: InstanceResult) -> None:
        """Write the objects of one image; those without pixels are left out."""
        lines = []
        for index, mask in enumerate(result.masks):
            if mask.any():
                name = f"masks/{sample.image_id}_{index}.png"
                self._write(name, png_bytes(Image.fromarray(mask)))
                label_id = self.samples.category_ids[int(result.labels[index])]
                lines.append(f"{name} {label_id} {float(result.scores[index])}\n")
        self._write(f"{sample.image_id}_pred.txt", "".join(lines).encode())


FORMS: dict[str, type[Form]] = {
    "labels": LabelImages,
    "voc": VocImages,
    "coco": CocoResults,
    "cityscapes-instances": CityscapesInstances,
}
"""All forms by the name that a layout's `SampleSet.submission` has."""


@contextmanager
def submission(folder: str | Path | None, samples: SampleSet, *, name: str = "") -> Iterator[Take]:
    """Yield a function that takes the results of images, and write them into a folder at the end.

    If the block raises an error the folder is as before. An earlier submission in it is replaced.

    Args:
        folder: is created if it is missing; None writes nothing.
        samples: the split; its layout names the form.
        name: the model's, for the list of files.

    Raises:
        PointRendError: the folder holds other files, or the form is not one of `FORMS` or takes other results.
    """
    if folder is None:
        yield lambda sample, result: None
        return
    folder = Path(folder)
    before = earlier_files(folder)
    if samples.submission not in FORMS:
        raise PointRendError(
            f"layout {samples.layout}: no form of submission {samples.submission!r}; expected one of {', '.join(FORMS)}"
        )
    existed = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_STAGING}*"):  # of a program that was killed
        shutil.rmtree(left)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
    images = 0
    try:
        form = FORMS[samples.submission](staging, samples)

        def take(sample: Sample, result: Any) -> None:
            nonlocal images
            if not isinstance(result, form.result):
                raise PointRendError(
                    f"a submission of form {samples.submission!r} takes {form.result.__name__}, "
                    f"the model gives {type(result).__name__}"
                )
            form.add(sample, result)
            images += 1

        yield take
        form.close()
        files = sorted(path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
        # The old list stays until no old file is left, so that a folder in between is still known as ours.
        for old in before:
            (folder / old).unlink()
        content = {"form": samples.submission, "layout": samples.layout, "model": name, "images": images}
        write_atomically(folder / MANIFEST, json_bytes({**content, "files": [file.as_posix() for file in files]}))
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (staging / file).replace(folder / file)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not existed and not any(folder.iterdir()):
            folder.rmdir()


def earlier_files(folder: Path) -> list[Path]:
    """Return the files of an earlier submission in a folder, but for the list of them.

    Raises:
        PointRendError: there are other files, which might be missed.
    """
    if not folder.is_dir():
        if folder.exists():
            raise PointRendError(f"{folder}: is not a folder; a submission needs a new or an empty one")
        return []
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    files = [path for path in found if not path.parts[0].startswith(_STAGING)]
    manifest = folder / MANIFEST
    listed = read_json(manifest).get("files") if is_ours(manifest) else ()
    known = set(listed) if isinstance(listed, list) and all(isinstance(name, str) for name in listed) else set()
    known |= {MANIFEST} if is_ours(manifest) else set()
    if others := [path for path in files if path.as_posix() not in known]:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise PointRendError(
            f"{folder}: holds other files than a submission of ours, {others[0]}{more}; give a new or an empty folder"
        )
    return [path for path in files if path != Path(MANIFEST)]
