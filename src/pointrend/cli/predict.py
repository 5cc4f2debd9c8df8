"""`pointrend predict`: from photographs to labels."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pointrend.cli.errors import FAILED, WRONG_USAGE, describe, one_line_errors, report
from pointrend.overlap import overlapped

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from pointrend.predict import InstancePredictor, SemanticPredictor
    from pointrend.zoo.download import Progress
    from pointrend.zoo.engines import Engine, Precision

    AnyPredictor = SemanticPredictor | InstancePredictor

EXPLAIN_SUFFIX = "_explain.png"
LISTED = 10
SHOWN_SCORE = 0.5
"""Of instances in `predict`: those of a worse score help an average precision, and clutter a picture."""


def predict(
    photos: Annotated[
        list[str],
        typer.Argument(metavar="PHOTO", help="Image files, folders of images, or patterns such as 'shots/*.jpg'."),
    ],
    model: Annotated[
        str, typer.Option(help="A name from 'pointrend models', or the path of a .safetensors, .pth or .pkl file.")
    ] = "people-lite0",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results; made if missing.")] = Path("out"),
    size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Shortest edge at which the network sees a photo. Larger finds finer things and takes longer. "
            "The results always have the photo's own size.  [default: the model's]",
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(metavar="N", help="Points predicted anew in each rendering step.  [default: the model's]"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Rendering steps; each doubles the resolution.  [default: the model's]"),
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(metavar="P", help="Instances: only those scored higher, 0 to 1.  [default: 0.5]"),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.")] = "cpu",
    engine: Annotated[
        str,
        typer.Option(
            help="What computes the network: torch, openvino or onnxruntime (faster on CPUs), or auto, the fastest "
            "that is installed."
        ),
    ] = "torch",
    precision: Annotated[
        str,
        typer.Option(
            help="Of the engine openvino: f32, or bf16 and int8 (faster on some CPUs, less exact); int8 after "
            "'pointrend calibrate'."
        ),
    ] = "f32",
    adaptive: Annotated[
        bool,
        typer.Option("--adaptive", help="Instances: render small objects no finer than the photo's pixels. Faster."),
    ] = False,
    dense: Annotated[
        bool,
        typer.Option("--dense", help="Render by the plain reference: the same result, more slowly and in more memory."),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also save a picture of how each result was rendered.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a list for programs to read, and nothing else, to stdout.")
    ] = False,
) -> None:
    """Label every pixel of photographs, or find every object.

    For each PHOTO these files are written to the folder --out:

    \b
      PHOTO.png          labels: a palette image whose values are class indices;
                         of an instance model, 16-bit: each object's pixels have its id
      PHOTO_overlay.png  the photograph with classes in colour, or objects outlined
      PHOTO.json         how many pixels each class has, or each object with its mask
      PHOTO.csv          of an instance model: id, class, score, area, box, centroid

    A photo that cannot be read is reported and the others are still done. The exit code is 0 if all went well, 1 if
    some photos failed, 2 for wrong usage. Files that pointrend did not write are never replaced.
    """
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("Loading the model ...") as status:
        with one_line_errors(code=WRONG_USAGE):
            if out.exists() and not out.is_dir():
                raise ValueError(f"--out must be a folder, {out} is a file")

        def downloading(name: str, done: int, total: int | None) -> None:
            status.update(f"Downloading {name}: {done / 1e6:.0f}{f' of {total / 1e6:.0f}' if total else ''} MB ...")

        predictor = make_predictor(
            model,
            device=device,
            size=size,
            points=points,
            steps=steps,
            score=score,
            least_score=SHOWN_SCORE,
            engine=engine,
            precision=precision,
            adaptive=adaptive,
            dense=dense,
            progress=downloading,
        )
        with one_line_errors(code=WRONG_USAGE):
            if explain and predictor.spec.task != "semantic":
                raise ValueError(f"--explain is made for semantic models, {predictor.spec.name} finds instances")
        with one_line_errors(code=WRONG_USAGE):
            out.mkdir(parents=True, exist_ok=True)
    records = _predict_all(predictor, photos, out, explain=explain, console=console)
    if as_json:
        # All in ASCII: it reaches the reading program whatever the terminal's encoding, and whatever a file's name.
        print(json.dumps([record.to_dict() for record in records], indent=2))
    else:
        _print_summary(records, out)
    if any(record.error for record in records):
        raise SystemExit(FAILED)


@dataclass(frozen=True)
class Record:
    """What became of a photograph, or of an argument that names none."""

    photo: str
    files: tuple[Path, ...] = ()
    summary: dict[str, Any] | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        if self.error is not None:
            return {"photo": self.photo, "error": self.error}
        return {"photo": self.photo, "files": [str(file) for file in self.files], **(self.summary or {})}


def make_predictor(
    model: str,
    *,
    device: str,
    size: int | None,
    points: int | None,
    steps: int | None,
    score: float | None = None,
    least_score: float | None = None,
    engine: str = "torch",
    precision: str = "f32",
    adaptive: bool = False,
    dense: bool = False,
    progress: Progress | None = None,
) -> AnyPredictor:
    """A predictor by a command's options; ends the program with one line, wrong usage or failed, where they are bad.

    `score` and `adaptive` are refused for semantic models; `least_score` takes the place of `score` for instances.
    """
    from pointrend.predict import InstancePredictor, SemanticPredictor
    from pointrend.zoo import InstanceModel
    from pointrend.zoo.engines import EngineError
    from pointrend.zoo.load import UnknownModelError, available_device, load_model

    with one_line_errors(code=WRONG_USAGE):
        available_device(device)
        try:
            # The two are checked there.
            loaded = load_model(
                model,
                device=device,
                progress=progress,
                engine=cast("Engine", engine),
                precision=cast("Precision", precision),
            )
        except (UnknownModelError, EngineError):
            raise
        except ValueError as error:  # a file that is damaged is an input that failed
            report(describe(error))
            raise SystemExit(FAILED) from None
        if isinstance(loaded, InstanceModel):
            return InstancePredictor(
                loaded,
                size=size,
                num_points=points,
                steps=steps,
                score_threshold=least_score if score is None else score,
                device=device,
                adaptive=adaptive,
                dense=dense,
            )
        if score is not None or adaptive:
            wrong = "--score" if score is not None else "--adaptive"
            raise ValueError(f"{wrong} is for instance models, {loaded.spec.name} labels pixels")
        return SemanticPredictor(loaded, size=size, num_points=points, steps=steps, device=device, dense=dense)


def _predict_all(
    predictor: AnyPredictor, arguments: list[str], out: Path, *, explain: bool, console: Console
) -> list[Record]:
    from pointrend.cli.photos import check_targets, find_photos, output_stems
    from pointrend.cli.progress import counting
    from pointrend.data.images import read_image

    photos, problems = find_photos(arguments)
    records = [Record(argument, error=message) for argument, message in problems]
    for _, message in problems:
        report(message)
    stems = output_stems(photos, _suffixes(predictor, explain=True))
    inputs = {photo.resolve() for photo in photos}
    suffixes = _suffixes(predictor, explain=explain)

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
        for done, (job, made) in enumerate(overlapped(list(zip(photos, stems, strict=True)), read, compute)):
            if isinstance(made, Record):
                records.append(made)
            else:
                message = _with_photo(job[0], describe(made))
                report(message)
                records.append(Record(str(job[0]), error=message))
            if len(photos) > 1:
                progress("predicting", done + 1, len(photos))
    return records


def _explained(predictor: AnyPredictor, photo: Path, pixels: np.ndarray, out: Path, stem: str) -> Record:
    from pointrend.explain import predict_and_keep, save_explanation
    from pointrend.predict import SemanticPredictor

    assert isinstance(predictor, SemanticPredictor)
    explained, rendering = predict_and_keep(predictor, pixels, photo)
    files = explained.save(out, stem=stem)
    path = out / f"{stem}{EXPLAIN_SUFFIX}"
    save_explanation(predictor, explained.image, path, rendering=rendering)
    return Record(str(photo), files=(*files, path), summary=explained.summary())


def _suffixes(predictor: AnyPredictor, *, explain: bool) -> tuple[str, ...]:
    """What is appended to a photograph's stem for each of its files."""
    from pointrend.results import INSTANCE_SUFFIXES, OUTPUT_SUFFIXES

    if predictor.spec.task == "instance":
        return INSTANCE_SUFFIXES
    return (*OUTPUT_SUFFIXES, EXPLAIN_SUFFIX) if explain else OUTPUT_SUFFIXES


def _with_photo(photo: Path, message: str) -> str:
    return message if str(photo) in message else f"{photo}: {message}"


def _print_summary(records: list[Record], out: Path) -> None:
    done = [record for record in records if record.error is None]
    for record in done[:LISTED]:
        _say(f"{record.photo} -> {', '.join(file.name for file in record.files)}")
        classes = (record.summary or {})["classes"]
        amounts = [_amount(found) for found in classes[:6]]
        _say(f"  {', '.join(amounts) or 'nothing found'}{', ...' if len(classes) > 6 else ''}")
    if len(done) > LISTED:
        _say(f"... and {len(done) - LISTED} more")
    where = f"; the results are in {out}" if done else "; nothing was written"
    _say(f"{len(done)} of {len(records)} done{where}")


def _amount(found: dict[str, Any]) -> str:
    """How much of a class there is: a number of objects, or a share of the pixels."""
    return f"{found['name']} {found['count']}" if "count" in found else f"{found['name']} {100 * found['share']:.1f} %"


def _say(line: str) -> None:
    """Print a line to stdout; what its encoding lacks, such as bytes of a file name that are not UTF-8, is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, errors="backslashreplace").decode(encoding))
