"""`pointrend eval`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointrend.cli import options
from pointrend.cli.errors import WRONG_USAGE, one_line_errors
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
    device: options.Device = "cpu",
    engine: options.Engine = "torch",
    precision: options.Precision = "float32",
    as_json: options.Json = False,
) -> None:
    """Score a model on a split, in percent, before rendering (row coarse) and after."""
    require_training_extra()
    from pointrend.data import find_samples
    from pointrend.evaluation import check_class_names, evaluate_results
    from pointrend.evaluation import evaluate as run
    from pointrend.evaluation.results_file import DEFAULT_DETECTIONS
    from pointrend.predict import PredictOptions

    if model.endswith(".json"):
        with one_line_errors(code=WRONG_USAGE):
            if (scales, flip, mode) != ("1", False, "whole"):
                raise ValueError("--scales, --flip and --mode are for models, not for a file of results")
            samples = find_samples(data, task="instance", layout=layout, split=split)
        with _checked(samples) as progress, one_line_errors():
            result = evaluate_results(
                Path(model),
                samples,
                max_detections=max_detections or DEFAULT_DETECTIONS,
                limit=limit,
                boundary_ratio=boundary_share,
                progress=progress,
            )
        _show(result, model, data, samples, as_json=as_json)
        return
    loaded = options.load_or_exit(model, device=device, engine=engine, precision=precision)
    spec = loaded.spec
    with one_line_errors(code=WRONG_USAGE):
        changes = PredictOptions(
            size=size,
            points=points,
            steps=steps,
            augmentation=options.augmentation_of(scales, flip=flip),
            slide=options.slide_of(mode, crop, stride),
            max_detections=max_detections,
        )
        loaded.scoring_predictor(changes)  # reports invalid options before files are read
        layout = layout or fitting_layout(data, spec.layout)
        samples = find_samples(data, task=spec.task, layout=layout, split=split)
        check_class_names(spec.class_names, samples.class_names)
    with _checked(samples) as progress:
        result = run(loaded, samples, options=changes, limit=limit, boundary_ratio=boundary_share, progress=progress)
    _show(result, spec.name, data, samples, as_json=as_json)


def fitting_layout(data: Path, layout: str | None) -> str | None:
    """Return the layout of the model's data if folders images/ and labels/ have no classes.json to name the classes."""
    from pointrend.data.classes import CLASSES_FILE

    described = any((folder / CLASSES_FILE).is_file() for folder in (data, data.absolute().parent))
    return layout if (data / "images").is_dir() and (data / "labels").is_dir() and not described else None


def _passes(passes: Mapping[str, Any]) -> str:
    """Return in words how the network saw images, if it was not as always."""
    scales, mode = passes.get("scales", [1.0]), passes.get("mode", "whole")
    parts = [] if scales == [1.0] else [f"scales {', '.join(f'{scale:g}' for scale in scales)}"]
    parts += ["flipped"] * bool(passes.get("flip"))
    if mode == "slide":
        crop, stride = ("x".join(map(str, passes[name])) for name in ("crop", "stride"))
        parts.append(f"windows of {crop} every {stride}")
    return "".join(f"; {part}" for part in parts)


@contextmanager
def _checked(samples: SampleSet) -> Iterator[Callable[[int, int], None]]:
    """Check the files, and yield a function that shows the progress of the evaluation."""
    from rich.console import Console

    from pointrend.data import ensure_sound
    from pointrend.progress import counting

    with counting("{}", console=Console(stderr=True)) as progress:
        ensure_sound(samples, progress=lambda done, total: progress("checking files", done, total))
        yield lambda done, total: progress("evaluating", done, total)


def _show(result: Evaluation, name: str, data: Path, samples: SampleSet, *, as_json: bool) -> None:
    from rich.console import Console

    from pointrend.cli.tables import number, table

    if as_json:
        json.dump({"model": name, "data": str(data), **result.to_dict()}, sys.stdout, indent=1)
        print()
        return
    console = Console()
    maximum = result.max_detections
    limit = "" if maximum is None else f"; at most {maximum} detections of an image count"
    console.print(
        f"{name} on {data}: {result.num_images} images, percent, by {', '.join(samples.metrics)}"
        f"{_passes(result.passes)}{limit}",
        highlight=False,
        soft_wrap=True,
    )
    rows = result.rows
    if result.per_class:
        classes = table("class", [f"{title}\n{row}" for title in result.per_class.values() for row in rows])
        for info in result.class_names:
            values = [rows[row][f"{key}/{info}"] for key in result.per_class for row in rows]
            classes.add_row(info, *map(number, values))
        console.print(classes)
    means = table("", list(rows))
    for key, title in result.headline.items():
        means.add_row(title, *(number(rows[row][key]) for row in rows))
    console.print(means)
