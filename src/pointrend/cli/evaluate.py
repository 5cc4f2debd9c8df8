"""`pointrend eval`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointrend.cli import options
from pointrend.cli.errors import WRONG_USAGE, one_line_errors
from pointrend.cli.errors import report as say
from pointrend.cli.train import require_training_extra

if TYPE_CHECKING:
    from pointrend.data import SampleSet


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A model's name (see `pointrend models`), or a .safetensors, .pth or .pkl file; or a .json file of "
            "instances in COCO's results format, from any program."
        ),
    ],
    data: Annotated[
        Path, typer.Argument(help="The folder of a split, with images/ and labels/; or of a data set, see --split.")
    ],
    split: Annotated[
        str | None, typer.Option(help="The split, if DATA is a whole data set (COCO, Cityscapes, ADE20K, ...).")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How DATA is laid out: folder, coco, cityscapes, voc, ...; any other word lists all.  "
            "[default: detected from the folders, or the model's]",
        ),
    ] = None,
    size: options.Size = None,
    points: options.Points = None,
    steps: options.Steps = None,
    boundary_share: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=0.5,
            help="Ratio of the width of boundary bands to the image's diagonal.  [default: 0.005; 0.02 for instances]",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only the first so many images.")] = None,
    max_detections: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Instances: the maximum number of detections that count in an image (COCO: of each class).  "
            "[default: the model's; 100 for a .json file, as COCO has it]",
        ),
    ] = None,
    submit: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write the rendered results into a new folder, as the benchmark of the data set takes them; a split "
            "without labels is then predicted alone.",
        ),
    ] = None,
    device: options.Device = "cpu",
    engine: options.Engine = "torch",
    precision: options.Precision = "float32",
    fps: Annotated[
        bool, typer.Option("--fps", help="Also measure frames per second, on up to 50 images, and peak memory.")
    ] = False,
    row: Annotated[
        bool,
        typer.Option("--row", help="Also print the row of the published tables, as text and as Markdown."),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write DIR/report.html: tables, curves, and zooms on the images that rendering changes most.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Score a model on a split, in percent, before rendering (row coarse) and after.

    Started by torchrun, several processes share the images, and the scores are those of one process.
    """
    require_training_extra()
    from pointrend.cli.reporting import Reporting
    from pointrend.cli.scores import Extras, show
    from pointrend.data import find_samples
    from pointrend.evaluation import check_class_names, evaluate_results, measure_speed, published_row
    from pointrend.evaluation import evaluate as run
    from pointrend.evaluation.results_file import DEFAULT_DETECTIONS
    from pointrend.predict import PredictOptions
    from pointrend.processes import started_by_torchrun

    if submit is not None:
        with one_line_errors(code=WRONG_USAGE):
            check_submission(model, submit)
    if model.endswith(".json"):
        with one_line_errors(code=WRONG_USAGE):
            for flag, given in (("--fps", fps), ("--row", row), ("--report", report)):
                if given:
                    raise ValueError(f"{flag} is for models; {model} holds results")
        with one_line_errors(code=WRONG_USAGE):
            samples = find_samples(data, task="instance", layout=layout, split=split)
        with checked(samples) as progress, one_line_errors():
            result = evaluate_results(
                Path(model),
                samples,
                max_detections=max_detections or DEFAULT_DETECTIONS,
                limit=limit,
                boundary_ratio=boundary_share,
                progress=progress,
            )
        show(result, model, data, samples, as_json=as_json)
        return
    with ExitStack() as stack:
        with one_line_errors(code=WRONG_USAGE):
            processes, device = stack.enter_context(started_by_torchrun(device))
        loaded = options.load_or_exit(model, device=device, engine=engine, precision=precision)
        spec = loaded.spec
        with one_line_errors(code=WRONG_USAGE):
            changes = PredictOptions(size=size, points=points, steps=steps, max_detections=max_detections)
            loaded.scoring_predictor(changes)  # reports invalid options before files are read
            layout = layout or fitting_layout(data, spec.layout)
            samples = find_samples(data, task=spec.task, layout=layout, split=split, labelled=submit is None)
            check_class_names(spec.class_names, samples.class_names)
            if not samples.metrics and (row or report):
                raise ValueError(f"{data} has no labels, so there is nothing for --row and --report")
            reporting = None if report is None else Reporting.into(report, loaded, processes)
        with checked(samples, quiet=not processes.first) as progress:
            result = run(
                loaded,
                samples,
                options=changes,
                limit=limit,
                boundary_ratio=boundary_share,
                progress=progress,
                processes=processes,
                observe=None if reporting is None else reporting.observe,
                submit=submit,
            )
        if not processes.first:
            return
        if submit is not None:
            say(f"{submit}: the results of {result.num_images} images, in the form {samples.submission}", kind="note")
        with progressing("measuring") as progress:
            speed = measure_speed(loaded, samples, options=changes, limit=limit, progress=progress) if fps else None
        more = Extras(speed, published_row(spec, result, speed=speed) if row or report else None)
        if reporting is not None:
            changed = ", ".join(f"{name} {getattr(changes, name)}" for name in changes.changed())
            asked = {
                "options": changed or "the model's own",
                "device": device,
                "engine": engine,
                "precision": precision,
            }
            with progressing("measuring points") as progress:
                reporting.write(samples, data, result, more, asked, progress)
    show(result, spec.name, data, samples, more, as_json=as_json)


def check_submission(model: str, folder: Path) -> None:
    """Raise an error if a folder cannot take a submission, before anything is loaded."""
    from pointrend.errors import PointRendError
    from pointrend.evaluation.submissions import earlier_files

    if model.endswith(".json"):
        raise PointRendError("--submit writes what a model predicts; a results file in COCO's format is a submission")
    earlier_files(folder)


def fitting_layout(data: Path, layout: str | None) -> str | None:
    """Return the layout of the model's data if folders images/ and labels/ have no classes.json to name the classes."""
    from pointrend.data.classes import CLASSES_FILE

    described = any((folder / CLASSES_FILE).is_file() for folder in (data, data.absolute().parent))
    return layout if (data / "images").is_dir() and (data / "labels").is_dir() and not described else None


@contextmanager
def checked(samples: SampleSet, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Check the files, and yield a function that shows the progress of the evaluation."""
    from rich.console import Console

    from pointrend.data import ensure_sound
    from pointrend.progress import counting

    with counting("{}", console=Console(stderr=True, quiet=quiet)) as progress:
        ensure_sound(samples, progress=lambda done, total: progress("checking files", done, total))
        yield lambda done, total: progress("evaluating", done, total)


@contextmanager
def progressing(name: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows the progress of a job."""
    from rich.console import Console

    from pointrend.progress import counting

    with counting("{}", console=Console(stderr=True)) as progress:
        yield lambda done, total: progress(name, done, total)
