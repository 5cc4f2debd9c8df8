"""`pointrend eval` for instance models."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pointrend.cli.errors import WRONG_USAGE, one_line_errors

if TYPE_CHECKING:
    from rich.table import Table

    from pointrend.data.instance_layouts import InstanceSet
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
    from pointrend.evaluate import evaluate_instances as run
    from pointrend.evaluate.semantic import check_class_names

    spec = predictor.spec
    with one_line_errors(code=WRONG_USAGE):
        samples = _samples(data, layout=layout or _fitting_layout(data, spec.layout), split=split)
        check_class_names(tuple(c.name for c in spec.classes), tuple(c.name for c in samples.classes))
    with _checked(samples) as progress:
        result = run(predictor, samples, limit=limit, boundary_share=boundary_share, progress=progress)
    _show(result, spec.name, data, samples, as_json=as_json)


def evaluate_file(
    path: Path,
    data: Path,
    *,
    split: str | None,
    layout: str | None,
    limit: int | None,
    boundary_share: float,
    as_json: bool,
) -> None:
    """Score a file of results in COCO's format and print it."""
    from pointrend.evaluate import evaluate_results

    with one_line_errors(code=WRONG_USAGE):
        samples = _samples(data, layout=layout, split=split)
    with _checked(samples) as progress, one_line_errors():
        result = evaluate_results(path, samples, limit=limit, boundary_share=boundary_share, progress=progress)
    _show(result, str(path), data, samples, as_json=as_json)


def _samples(data: Path, *, layout: str | None, split: str | None) -> InstanceSet:
    from pointrend.data.instance_layouts import find_instance_samples

    return find_instance_samples(data, layout=layout, split=split)


@contextmanager
def _checked(samples: InstanceSet) -> Iterator[Callable[[int, int], None]]:
    """Checks the files; what is given reports progress of what follows."""
    from rich.console import Console

    from pointrend.cli.progress import counting
    from pointrend.data.instance_checks import ensure_sound_instances

    with counting("{}", console=Console(stderr=True)) as progress:
        ensure_sound_instances(samples, progress=lambda done, total: progress("checking files", done, total))
        yield lambda done, total: progress("evaluating", done, total)


def _show(result: InstanceEvaluation, name: str, data: Path, samples: InstanceSet, *, as_json: bool) -> None:
    from rich.console import Console

    if as_json:
        json.dump({"model": name, "data": str(data), **result.to_dict()}, sys.stdout, indent=1)
        print()
        return
    console = Console()
    rules = "LVIS's rules; " if samples.name == "lvis" else ""
    console.print(
        f"{name} on {data}: {result.num_images} images, percent; {rules}"
        f"at most {result.max_detections} detections of an image count",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_mask_table(result))
    for line in _lines(result):
        console.print(line, highlight=False, soft_wrap=True)


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


def _lines(result: InstanceEvaluation) -> list[str]:
    """What stands under the table: boxes, and what only some data sets have."""
    from pointrend.metrics.lvis import LvisApScores

    box = next(iter(result.rows.values())).scores.box
    lines = [f"boxes  AP {_number(box.ap)}  AP50 {_number(box.ap50)}  AP75 {_number(box.ap75)}"]
    for name, row in result.rows.items():
        mask = row.scores.mask
        if isinstance(mask, LvisApScores) and mask.ap_rare == mask.ap_rare:
            kinds = (("rare", mask.ap_rare), ("common", mask.ap_common), ("frequent", mask.ap_frequent))
            lines.append(f"{name}  {'  '.join(f'{kind} AP {_number(value)}' for kind, value in kinds)}")
        if row.cityscapes is not None:
            lines.append(f"{name}  Cityscapes AP {_number(row.cityscapes.ap)}  AP50 {_number(row.cityscapes.ap50)}")
    return lines


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"  # NaN: there is nothing of the kind
