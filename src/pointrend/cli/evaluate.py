"""`pointrend eval`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointrend.cli import options
from pointrend.cli.errors import WRONG_USAGE, one_line_errors
from pointrend.cli.progress import checked
from pointrend.cli.train import require_training_extra

if TYPE_CHECKING:
    from pointrend.data import SampleSet
    from pointrend.evaluation import Evaluation


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
    scales: options.Scales = "1",
    flip: options.Flip = False,
    mode: options.Mode = "whole",
    crop: options.Crop = None,
    stride: options.Stride = None,
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
    corrupt: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,...",
            help="Refiners: score on wrong masks made of the true ones: true, x8, x16, x32, x32-soft, dilated, eroded, "
            "polygon, or all.",
        ),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Refiners: score on the masks in a folder, named as the images.")
    ] = None,
    kind: options.Kind = None,
    fit: options.Fit = None,
    as_json: options.Json = False,
) -> None:
    """Score a model on a split, in percent, before rendering (row coarse) and after.

    A refiner is scored on the masks of --corrupt or --masks, against the images' masks/ or labels/, before and after.

    Started by torchrun, several processes share the images, and the scores are those of one process.
    """
    require_training_extra()
    from pointrend.cli.evaluation import Job, Wanted
    from pointrend.cli.scores import show
    from pointrend.data import find_samples
    from pointrend.evaluation import check_class_names
    from pointrend.predict import PredictOptions
    from pointrend.processes import started_by_torchrun
    from pointrend.tasks import samples_of

    if corrupt is not None or masks is not None:
        from pointrend.cli.refined import evaluate_refiner

        given: dict[str, object] = {
            "--split": split,
            "--layout": layout,
            "--size": size,
            "--points": points,
            "--steps": steps,
        }
        given |= {"--scales": scales != "1", "--flip": flip, "--mode": mode != "whole", "--submit": submit}
        given |= {"--fps": fps, "--row": row, "--report": report, "--boundary-share": boundary_share}
        with one_line_errors(code=WRONG_USAGE):
            if wrong := [flag for flag, value in given.items() if value]:
                raise ValueError(f"{', '.join(wrong)}: not for refiners, which --corrupt and --masks are for")
        evaluate_refiner(
            model,
            data,
            corrupt=corrupt,
            masks=masks,
            kind=kind,
            fit=fit,
            limit=limit,
            device=device,
            engine=engine,
            as_json=as_json,
        )
        return
    if submit is not None:
        with one_line_errors(code=WRONG_USAGE):
            check_submission(model, submit)
    if model.endswith(".json"):
        with one_line_errors(code=WRONG_USAGE):
            given = {"--fps": fps, "--row": row, "--report": report, "--flip": flip}
            given |= {"--scales": scales != "1", "--mode": mode != "whole"}
            if wrong := [flag for flag, value in given.items() if value]:
                raise ValueError(f"{', '.join(wrong)}: for models, and {model} holds results")
        samples, result = _of_results_file(Path(model), data, split, layout, limit, boundary_share, max_detections)
        show(result, model, data, samples, as_json=as_json)
        return
    with ExitStack() as stack:
        with one_line_errors(code=WRONG_USAGE):
            processes, device = stack.enter_context(started_by_torchrun(device))
        loaded = options.load_or_exit(model, device=device, engine=engine, precision=precision)
        with one_line_errors(code=WRONG_USAGE):
            plain = PredictOptions(size=size, points=points, steps=steps, max_detections=max_detections)
            changes = replace(
                plain,
                augmentation=options.augmentation_of(scales, flip=flip),
                slide=options.slide_of(mode, crop, stride),
            )
            if loaded.task.needs is not None:
                raise ValueError(f"{loaded.spec.name} needs masks to be scored on: give --corrupt KIND or --masks DIR")
            loaded.scoring_predictor(changes)  # reports invalid options before files are read
            layout = layout or fitting_layout(data, loaded.spec.layout)
            samples = find_samples(
                data, task=samples_of(loaded.spec.task), layout=layout, split=split, labelled=submit is None
            )
            check_class_names(loaded.spec.class_names, samples.class_names)
            wanted = Wanted(fps=fps, row=row, report=report, submit=submit, limit=limit, boundary_ratio=boundary_share)
            job = Job(loaded, samples, data, plain, changes, wanted, processes)
        result, extras = job.run({"device": device, "engine": f"{engine}, {precision}"})
        if processes.first:
            show(result, loaded.spec.name, data, samples, extras, as_json=as_json)


def _of_results_file(
    path: Path,
    data: Path,
    split: str | None,
    layout: str | None,
    limit: int | None,
    boundary_ratio: float | None,
    max_detections: int | None,
) -> tuple[SampleSet, Evaluation]:
    """Score a file of results in COCO's format."""
    from pointrend.data import find_samples
    from pointrend.evaluation import evaluate_results
    from pointrend.evaluation.results_file import DEFAULT_DETECTIONS

    with one_line_errors(code=WRONG_USAGE):
        samples = find_samples(data, task="instance", layout=layout, split=split)
    with checked(samples) as progress, one_line_errors():
        result = evaluate_results(
            path,
            samples,
            max_detections=max_detections or DEFAULT_DETECTIONS,
            limit=limit,
            boundary_ratio=boundary_ratio,
            progress=progress("evaluating"),
        )
    return samples, result


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
