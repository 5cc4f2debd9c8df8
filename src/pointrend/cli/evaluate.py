"""`pointrend eval`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointrend.cli.errors import WRONG_USAGE, one_line_errors
from pointrend.cli.train import require_training_extra

if TYPE_CHECKING:
    from rich.table import Table

    from pointrend.evaluate import Evaluation

MEANS = {
    "miou": "mIoU",
    "mean_accuracy": "mean acc",
    "pixel_accuracy": "pixel acc",
    "boundary_iou": "Boundary IoU",
    "boundary_f": "Boundary F",
}
# Boundary F of each class is in the JSON: with it, the table does not fit a terminal of 80 columns.
PER_CLASS = {"iou": "IoU", "boundary_iou": "Boundary IoU"}


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A model's name (see `pointrend models`), or a .safetensors, .pth or .pkl file; or a .json file of "
            "instances in COCO's results format, whatever made it."
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(help="One split: the folder with images/ and labels/; or a data set, see --split."),
    ],
    split: Annotated[
        str | None, typer.Option(help="The split, where DATA is a whole data set (COCO, Cityscapes, ADE20K, ...).")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="folder, camvid, people, cityscapes, ade20k or voc; of instances coco, lvis, cityscapes-instances, "
            "nuclei or instance-ids. By default the folders tell, or the model."
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Shortest edge the network sees, instead of the model's own.")
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Points of a subdivision step, instead of the model's own.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Subdivision steps, instead of the model's own.")] = None,
    boundary_share: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            max=0.5,
            help="Width of boundary bands, a share of the diagonal.  [default: 0.005; 0.02 for instances]",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    engine: Annotated[
        str, typer.Option(help="What computes the network: torch, openvino, onnxruntime, or auto.")
    ] = "torch",
    precision: Annotated[str, typer.Option(help="Of the engine openvino: f32, bf16, or int8.")] = "f32",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a model on a split, before rendering (coarse) and after, in percent."""
    require_training_extra()
    from rich.console import Console

    from pointrend.cli.instance_scores import evaluate_file, evaluate_instances
    from pointrend.cli.predict import make_predictor
    from pointrend.cli.progress import counting
    from pointrend.data import ensure_sound, find_samples
    from pointrend.evaluate import ROWS, check_classes
    from pointrend.evaluate import evaluate as run
    from pointrend.predict import InstancePredictor

    if model.endswith(".json"):
        evaluate_file(
            Path(model),
            data,
            split=split,
            layout=layout,
            limit=limit,
            boundary_share=boundary_share or 0.02,
            as_json=as_json,
        )
        return
    errors = Console(stderr=True)
    predictor = make_predictor(
        model, device=device, size=size, points=points, steps=steps, engine=engine, precision=precision
    )
    if isinstance(predictor, InstancePredictor):
        evaluate_instances(
            predictor,
            data,
            split=split,
            layout=layout,
            limit=limit,
            boundary_share=boundary_share or 0.02,
            as_json=as_json,
        )
        return
    spec = predictor.spec
    with one_line_errors(code=WRONG_USAGE):
        samples = find_samples(data, layout=layout or fitting_layout(data, spec.layout), split=split)
        check_classes(tuple(c.name for c in spec.classes), samples)
    with counting("{}", console=errors) as progress:
        ensure_sound(samples, progress=lambda done, total: progress("checking files", done, total))
        result = run(
            predictor,
            samples,
            limit=limit,
            boundary_share=boundary_share or 0.005,
            progress=lambda done, total: progress("evaluating", done, total),
        )
    if as_json:
        json.dump({"model": spec.name, "data": str(data), **result.to_dict()}, sys.stdout, indent=1)
        print()
        return
    console = Console()
    console.print(f"{spec.name} on {data}: {result.num_images} images, percent", highlight=False, soft_wrap=True)
    console.print(_class_table(result, ROWS))
    console.print(_mean_table(result, ROWS))


def fitting_layout(data: Path, layout: str | None) -> str | None:
    """The layout of the model's own data where the folders do not tell: label images say nothing of their classes."""
    from pointrend.data.classes import CLASSES_FILE

    described = any((folder / CLASSES_FILE).is_file() for folder in (data, data.absolute().parent))
    return layout if (data / "images").is_dir() and (data / "labels").is_dir() and not described else None


def _mean_table(result: Evaluation, rows: tuple[str, ...]) -> Table:
    table = _table("mean", list(MEANS.values()))
    for row in rows:
        scores = getattr(result, row)
        table.add_row(row, *(f"{getattr(scores, key):.2f}" for key in MEANS))
    return table


def _class_table(result: Evaluation, rows: tuple[str, ...]) -> Table:
    table = _table("class", [f"{name}\n{row}" for name in PER_CLASS.values() for row in rows])
    for index, name in enumerate(result.class_names):
        pair = [getattr(result, row).per_class[index] for row in rows]
        table.add_row(name, *(_number(getattr(scores, key)) for key in PER_CLASS for scores in pair))
    return table


def _table(first: str, columns: list[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"  # NaN: the class does not occur
