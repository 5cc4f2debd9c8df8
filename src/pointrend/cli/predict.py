"""`pointrend predict`: labels or objects of photos."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointrend.cli import options
from pointrend.cli.errors import FAILED, WRONG_USAGE, describe, one_line_errors, report
from pointrend.overlap import overlapped

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from pointrend.predict import Predictor

EXPLAIN_SUFFIX = "_explain.png"
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
            from pointrend.predict import PredictOptions

            foreign, does = loaded.task.predictor.foreign, loaded.task.predictor.does
            for flag, name, given in (
                ("--score", "score_threshold", score is not None),
                ("--adaptive", "adaptive", adaptive),
            ):
                if given and name in foreign:
                    raise ValueError(f"{flag} is for {foreign[name]} models, {loaded.spec.name} {does}")
            changes = PredictOptions(
                size=size, points=points, steps=steps, score_threshold=score, adaptive=adaptive, reference=reference
            )
            predictor = loaded.predictor(changes)
            if explain and not loaded.task.explains:
                raise ValueError(f"--explain works with semantic models only; {loaded.spec.name} {does}")
            out.mkdir(parents=True, exist_ok=True)
    records = _predict_all(predictor, photos, out, explain=explain, console=console)
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


def _predict_all(
    predictor: Predictor[Any, Any, Any, Any], arguments: list[str], out: Path, *, explain: bool, console: Console
) -> list[Record]:
    from pointrend.cli.photos import check_targets, find_photos, output_stems
    from pointrend.data.images import read_image
    from pointrend.progress import counting

    photos, problems = find_photos(arguments)
    records = [Record(argument, error=message) for argument, message in problems]
    for _, message in problems:
        report(message)
    result_suffixes = predictor.result_type.suffixes
    stems = output_stems(photos, (*result_suffixes, EXPLAIN_SUFFIX))
    inputs = {photo.resolve() for photo in photos}
    suffixes = (*result_suffixes, EXPLAIN_SUFFIX) if explain else result_suffixes

    def read(job: tuple[Path, str]) -> np.ndarray:
        photo, stem = job
        check_targets(photo, [out / f"{stem}{suffix}" for suffix in suffixes], inputs)
        return read_image(photo)

    def compute(job: tuple[Path, str], pixels: np.ndarray) -> Callable[[], Record]:
        photo, stem = job
        if explain:
            record = _explained(predictor, photo, pixels, out, stem)
            return lambda: record
        result = predictor.predict(pixels, photo)
        return lambda: Record(str(photo), files=tuple(result.save(out, stem=stem)), summary=result.summary())

    with counting("{}", console=console) as progress:
        jobs = list(zip(photos, stems, strict=True))
        for done, ((photo, _), outcome) in enumerate(overlapped(jobs, read, compute), start=1):
            if isinstance(outcome, Exception):
                message = describe(outcome)
                message = message if str(photo) in message else f"{photo}: {message}"
                report(message)
                outcome = Record(str(photo), error=message)
            records.append(outcome)
            if len(photos) > 1:
                progress("predicting", done, len(photos))
    return records


def _explained(
    predictor: Predictor[Any, Any, Any, Any], photo: Path, pixels: np.ndarray, out: Path, stem: str
) -> Record:
    from pointrend.explain import predict_and_keep, save_explanation
    from pointrend.predict import SemanticPredictor

    assert isinstance(predictor, SemanticPredictor)
    result, rendering = predict_and_keep(predictor, pixels, photo)
    files = result.save(out, stem=stem)
    path = out / f"{stem}{EXPLAIN_SUFFIX}"
    save_explanation(predictor, result.image, path, rendering=rendering)
    return Record(str(photo), files=(*files, path), summary=result.summary())


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
