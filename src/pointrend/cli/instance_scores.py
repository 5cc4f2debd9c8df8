"""`pointrend eval` for instance models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pointrend.cli.errors import WRONG_USAGE, one_line_errors

if TYPE_CHECKING:
    from rich.table import Table

    from pointrend.evaluate import InstanceEvaluation
    from pointrend.predict import InstancePredictor


def evaluate_instances(
    predictor: InstancePredictor,
    data: Path,
    *,
    split: str | None,
    layout: str | None,
    limit: int | None,
    boundary_share: float,
    as_json: bool,
) -> None:
    """Score an instance model on a split and print it."""
    from rich.console import Console

    from pointrend.cli.progress import counting
    from pointrend.data.instance_checks import ensure_sound_instances
    from pointrend.data.instance_layouts import find_instance_samples
    from pointrend.evaluate import evaluate_instances as run
    from pointrend.evaluate.semantic import check_class_names

    errors = Console(stderr=True)
    spec = predictor.spec
    with one_line_errors(code=WRONG_USAGE):
        samples = find_instance_samples(data, layout=layout or _fitting_layout(data, spec.layout), split=split)
        check_class_names(tuple(c.name for c in spec.classes), tuple(c.name for c in samples.classes))
    with counting("{}", console=errors) as progress:
        ensure_sound_instances(samples, progress=lambda done, total: progress("checking files", done, total))
        result = run(
            predictor,
            samples,
            limit=limit,
            boundary_share=boundary_share,
            progress=lambda done, total: progress("evaluating", done, total),
        )
    if as_json:
        json.dump({"model": spec.name, "data": str(data), **result.to_dict()}, sys.stdout, indent=1)
        print()
        return
    console = Console()
    console.print(
        f"{spec.name} on {data}: {result.num_images} images, percent; "
        f"at most {result.max_detections[-1]} detections of an image count",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_mask_table(result))
    console.print(_box_line(result), highlight=False, soft_wrap=True)


def _fitting_layout(data: Path, layout: str | None) -> str | None:
    """The layout of the model's own data where the folders do not tell: id images say nothing of their class."""
    return layout if (data / "images").is_dir() and (data / "labels").is_dir() else None


def _mask_table(result: InstanceEvaluation) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("masks", no_wrap=True)
    for column in ("AP", "AP50", "AP75", "APs", "APm", "APl", "Boundary AP", "mean F1"):
        table.add_column(column, justify="right")
    for name, row in result.rows.items():
        mask, boundary = row.scores.mask, row.scores.boundary
        values = (mask.ap, mask.ap50, mask.ap75, mask.ap_small, mask.ap_medium, mask.ap_large, boundary.ap, row.f1.mean)
        table.add_row(name, *(_number(value) for value in values))
    return table


def _box_line(result: InstanceEvaluation) -> str:
    box = next(iter(result.rows.values())).scores.box
    return f"boxes  AP {_number(box.ap)}  AP50 {_number(box.ap50)}  AP75 {_number(box.ap75)}"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"  # NaN: there is nothing of the kind
