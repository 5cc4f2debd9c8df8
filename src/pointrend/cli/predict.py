"""`pointrend predict`: labels or objects of photos."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pointrend.cli import options
from pointrend.cli.errors import FAILED, WRONG_USAGE, describe, one_line_errors, report
from pointrend.files import write_atomically
from pointrend.overlap import overlapped

if TYPE_CHECKING:
    from rich.console import Console

    from pointrend.cutting import Cutting
    from pointrend.data.images import Photo
    from pointrend.data.intensity import Scaling
    from pointrend.data.reading import Reading
    from pointrend.predict import Predictor
    from pointrend.results import Result
    from pointrend.zoo import Model

EXPLAIN_SUFFIX = "_explain.png"
CUTOUT_SUFFIX = "_cutout.png"
LISTED = 10
"""The number of photos whose results are listed in the summary."""


def predict(
    photos: Annotated[
        list[str],
        typer.Argument(metavar="PHOTO", help="Image files, folders of images, or patterns such as 'shots/*.jpg'."),
    ],
    model: options.Model = "people-lite0",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results; created if missing.")] = Path("out"),
    size: options.Size = None,
    points: options.Points = None,
    steps: options.Steps = None,
    score: Annotated[
        float | None,
        typer.Option(metavar="P", help="Instance models: keep objects scored above this, 0 to 1.  [default: 0.5]"),
    ] = None,
    max_detections: options.MaxDetections = None,
    page: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Page of a TIFF or frame of an animation, counted from 1; all: each of them, as PHOTO_p001, ...  "
            "[default: the first]",
        ),
    ] = None,
    channel: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Use one channel of a colour image as grey, counted from 1.")
    ] = None,
    range_: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="auto|full|LO,HI",
            help="How values become 0 to 255: by the image's own range, by the full range of their type, or from LO to "
            "HI.  [default: the model's, for images of more than 8 bits]",
        ),
    ] = None,
    scales: options.Scales = "1",
    flip: options.Flip = False,
    mode: options.Mode = "whole",
    crop: options.Crop = None,
    stride: options.Stride = None,
    device: options.Device = "cpu",
    engine: options.Engine = "torch",
    precision: options.Precision = "float32",
    adaptive: Annotated[
        bool,
        typer.Option(
            "--adaptive", help="Instance models: render small objects no finer than the photo's pixels. Faster."
        ),
    ] = False,
    reference: Annotated[
        bool,
        typer.Option(
            "--reference", "--dense", help="Use the reference renderer: same result, slower and with more memory."
        ),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Semantic models: also save an image of how each result was rendered.")
    ] = False,
    cutout: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS,...|all",
            help="Also save what is of these classes as PHOTO_cutout.png, the rest clear; its edge is refined by "
            "refiner-lite0. all: everything but the background.",
        ),
    ] = None,
    specks: Annotated[
        int, typer.Option(min=0, metavar="N", help="Remove parts and holes of under N pixels from cut-outs.")
    ] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results of other photos of the same name in --out.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Label every pixel of photos, or find every object.

    For each PHOTO these files are written to the folder --out:

    \b
      PHOTO.png          semantic models: a palette image of class indices;
                         instance models: a 16-bit image of object ids
      PHOTO_overlay.png  the photo with coloured classes or outlined objects
      PHOTO.json         the number of pixels of each class, or objects with masks
      PHOTO.csv          instance models: id, class, score, area, box, centroid
      PHOTO_cutout.png   with --cutout: the photo's classes or objects, the rest clear

    A photo that cannot be read is reported and skipped. The exit code is 0 if all photos are done, 1 if some failed,
    2 for wrong usage. Files that pointrend did not write are never replaced.
    """
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("Loading the model ...") as status:
        with one_line_errors(code=WRONG_USAGE):
            if out.exists() and not out.is_dir():
                raise ValueError(f"--out must be a folder, {out} is a file")

        def downloading(name: str, done: int, total: int | None) -> None:
            status.update(f"Downloading {name}: {done / 1e6:.0f}{f' of {total / 1e6:.0f}' if total else ''} MB ...")

        loaded = options.load_or_exit(model, device=device, engine=engine, precision=precision, progress=downloading)
        with one_line_errors(code=WRONG_USAGE):
            from pointrend.data.reading import Reading
            from pointrend.predict import PredictOptions

            foreign, does = loaded.task.predictor.foreign, loaded.task.predictor.does
            for flag, name, given in (
                ("--score", "score_threshold", score is not None),
                ("--max-detections", "max_detections", max_detections is not None),
                ("--adaptive", "adaptive", adaptive),
                ("--mode slide", "slide", mode == "slide"),
            ):
                if given and name in foreign:
                    raise ValueError(f"{flag} is for {foreign[name]} models, {loaded.spec.name} {does}")
            changes = PredictOptions(
                size=size,
                points=points,
                steps=steps,
                score_threshold=score,
                max_detections=max_detections,
                adaptive=adaptive,
                reference=reference,
                augmentation=options.augmentation_of(scales, flip=flip),
                slide=options.slide_of(mode, crop, stride),
            )
            if explain and not changes.single:
                raise ValueError(
                    "--explain draws one rendering of the whole photo: leave out --scales, --flip and --mode"
                )
            reading = Reading(
                None if page in (None, "all") else _number(page, "--page", "a number or all"),
                channel,
                loaded.spec.input.intensity if range_ is None else scaling_of(range_),
            )
            predictor = loaded.predictor(changes)
            if explain and not loaded.task.explains:
                raise ValueError(f"--explain works with semantic models only; {loaded.spec.name} {does}")
            if specks and cutout is None:
                raise ValueError("--specks is for cut-outs: add --cutout")
            cut = _cutting(cutout, specks, loaded)
            out.mkdir(parents=True, exist_ok=True)
    batch = _Batch(predictor, out, reading, every_page=page == "all", explain=explain, cut=cut, overwrite=overwrite)
    records = batch.run(photos, console)
    if as_json:
        # In ASCII, so that neither the terminal's encoding nor a file's name can make it fail.
        print(json.dumps([record.to_dict() for record in records], indent=2))
    else:
        _print_summary(records, out)
    if any(record.error for record in records):
        raise SystemExit(FAILED)


@dataclass(frozen=True)
class Record:
    """The result of a photo, or the error of a photo or an argument."""

    photo: str
    files: tuple[Path, ...] = ()
    summary: dict[str, Any] | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record for JSON."""
        if self.error is not None:
            return {"photo": self.photo, "error": self.error}
        return {"photo": self.photo, "files": [str(file) for file in self.files], **(self.summary or {})}


def scaling_of(text: str) -> Scaling:
    """Return the scaling that --range names; raise ValueError if it names none."""
    if text in ("auto", "full"):
        return cast("Scaling", text)
    parts = text.replace(",", " ").split()
    if len(parts) != 2:
        raise ValueError(f"--range must be auto, full or LO,HI, got {text!r}")
    low, high = (_number(part, "--range", "auto, full or LO,HI") for part in parts)
    return float(low), float(high)


def _number(text: Any, option: str, expected: str) -> Any:
    """Return the number in an option's text: an int for --page."""
    try:
        return int(text) if option == "--page" else float(text)
    except ValueError:
        raise ValueError(f"{option} must be {expected}, got {text!r}") from None


def _cutting(cutout: str | None, specks: int, model: Model) -> Cutting | None:
    """Return what --cutout asks for."""
    if cutout is None:
        return None
    from pointrend.cutting import cutting

    names = [name.strip() for name in cutout.split(",")]
    return cutting(names, model.spec.classes, background=model.spec.task != "instance", specks=specks)


@dataclass(frozen=True)
class _Job:
    photo: Path
    stem: str
    reading: Reading


@dataclass(frozen=True)
class _Batch:
    """The photos of one call of the command."""

    predictor: Predictor[Any, Any, Any, Any]
    out: Path
    reading: Reading
    every_page: bool
    explain: bool
    cut: Cutting | None
    overwrite: bool

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Return the ends of the names of all files that a photo gets."""
        extra = ((EXPLAIN_SUFFIX, self.explain), (CUTOUT_SUFFIX, self.cut is not None))
        return (*self.predictor.result_type.suffixes, *(suffix for suffix, wanted in extra if wanted))

    def run(self, arguments: list[str], console: Console) -> list[Record]:
        """Predict and save the results of all photos; failures are reported, and recorded."""
        from pointrend.cli.photos import find_photos, output_stems
        from pointrend.progress import counting

        photos, problems = find_photos(arguments)
        records = [Record(argument, error=message) for argument, message in problems]
        for _, message in problems:
            report(message)
        stems = output_stems(photos, (*self.predictor.result_type.suffixes, EXPLAIN_SUFFIX, CUTOUT_SUFFIX))
        jobs = [job for photo, stem in zip(photos, stems, strict=True) for job in self._jobs(photo, stem)]
        inputs = {photo.resolve() for photo in photos}
        with counting("{}", console=console) as progress:
            outcomes = overlapped(jobs, lambda job: self._read(job, inputs), self._compute)
            for done, (job, outcome) in enumerate(outcomes, start=1):
                if isinstance(outcome, Exception):
                    message = describe(outcome)
                    message = message if str(job.photo) in message else f"{job.photo}: {message}"
                    report(message)
                    outcome = Record(str(job.photo), error=message)
                for note in (outcome.summary or {}).get("notes", ()):
                    report(f"{job.photo}: {note}", kind="note")
                records.append(outcome)
                if len(jobs) > 1:
                    progress("predicting", done, len(jobs))
        return records

    def _jobs(self, photo: Path, stem: str) -> list[_Job]:
        """Return a job for the photo, or for each of its pages."""
        from pointrend.data.images import ImageError, pages_of

        if not self.every_page:
            return [_Job(photo, stem, self.reading)]
        try:
            pages = range(1, pages_of(photo) + 1)
        except ImageError:  # reading it reports the error
            return [_Job(photo, stem, self.reading)]
        return [_Job(photo, f"{stem}_p{page:03d}", replace(self.reading, page=page)) for page in pages]

    def _read(self, job: _Job, inputs: set[Path]) -> Photo:
        from pointrend.cli.photos import check_targets
        from pointrend.data.images import read_photo

        targets = [self.out / f"{job.stem}{suffix}" for suffix in self.suffixes]
        check_targets(job.photo, targets, inputs, overwrite=self.overwrite)
        return read_photo(job.photo, job.reading)

    def _compute(self, job: _Job, photo: Photo) -> Callable[[], Record]:
        extra: list[Path] = []
        if self.explain:
            result = _explained(self.predictor, photo, job, self.out)
            extra.append(self.out / f"{job.stem}{EXPLAIN_SUFFIX}")
        else:
            result = self.predictor.predict(photo.pixels, job.photo)
        result = result.noted(photo.notes)
        image = None if self.cut is None else self.cut.image(result)
        if image is not None and image.getchannel("A").getextrema()[1] == 0:
            result = result.noted(("nothing of what is to be cut out was found: the cut-out is clear",))

        def save() -> Record:
            from pointrend.results.files import png_bytes

            files = (*result.save(self.out, stem=job.stem), *extra)
            if image is not None:
                path = self.out / f"{job.stem}{CUTOUT_SUFFIX}"
                write_atomically(path, png_bytes(image))
                files = (*files, path)
            return Record(str(job.photo), files=files, summary=result.summary())

        return save


def _explained(predictor: Predictor[Any, Any, Any, Any], photo: Photo, job: _Job, out: Path) -> Result:
    """Predict, and save the picture of how the result was rendered."""
    from pointrend.explain import predict_and_keep, save_explanation
    from pointrend.predict import SemanticPredictor

    assert isinstance(predictor, SemanticPredictor)
    found, rendering = predict_and_keep(predictor, photo.pixels, job.photo)
    save_explanation(predictor, found.image, out / f"{job.stem}{EXPLAIN_SUFFIX}", rendering=rendering)
    return found


def _print_summary(records: list[Record], out: Path) -> None:
    done = [record for record in records if record.error is None]
    for record in done[:LISTED]:
        _say(f"{record.photo} -> {', '.join(file.name for file in record.files)}")
        classes = (record.summary or {})["classes"]
        amounts = [_amount(entry) for entry in classes[:6]]
        _say(f"  {', '.join(amounts) or 'nothing found'}{', ...' if len(classes) > 6 else ''}")
    if len(done) > LISTED:
        _say(f"... and {len(done) - LISTED} more")
    where = f"; the results are in {out}" if done else "; nothing was written"
    _say(f"{len(done)} of {len(records)} done{where}")


def _amount(entry: dict[str, Any]) -> str:
    """Return a class's name with its number of objects, or its percentage of the pixels."""
    return f"{entry['name']} {entry['count']}" if "count" in entry else f"{entry['name']} {100 * entry['ratio']:.1f} %"


def _say(line: str) -> None:
    """Print a line to stdout; characters that its encoding lacks, as in file names that are not UTF-8, are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, errors="backslashreplace").decode(encoding))
