"""What `pointrend eval` prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pointrend.cli.tables import number, table
from pointrend.data import SampleSet
from pointrend.evaluation import Evaluation, PublishedRow, Speed


@dataclass(frozen=True)
class Extras:
    """What was asked for beside the scores."""

    speed: Speed | None = None
    row: PublishedRow | None = None

    def to_dict(self) -> dict[str, object]:
        """Return for JSON what there is."""
        speed = {} if self.speed is None else {"speed": self.speed.to_dict()}
        return speed | ({} if self.row is None else {"row": self.row.cells})


def _passes(passes: Mapping[str, Any]) -> str:
    """Return in words how the network saw images, if it was not as always."""
    scales, mode = passes.get("scales", [1.0]), passes.get("mode", "whole")
    parts = [] if scales == [1.0] else [f"scales {', '.join(f'{scale:g}' for scale in scales)}"]
    parts += ["flipped"] * bool(passes.get("flip"))
    if mode == "slide":
        crop, stride = ("x".join(map(str, passes[name])) for name in ("crop", "stride"))
        parts.append(f"windows of {crop} every {stride}")
    return "".join(f"; {part}" for part in parts)


def show(
    result: Evaluation, name: str, data: Path, samples: SampleSet, extras: Extras = Extras(), *, as_json: bool
) -> None:
    """Print the scores of a model or a results file as tables, or as JSON."""
    if as_json:
        json.dump({"model": name, "data": str(data), **result.to_dict(), **extras.to_dict()}, sys.stdout, indent=1)
        print()
        return
    console = Console()
    if not samples.metrics:
        line = f"{name} on {data}: {result.num_images} images without labels, so nothing is scored"
        console.print(line, highlight=False, soft_wrap=True)
        if extras.speed is not None:
            console.print(str(extras.speed), highlight=False, soft_wrap=True)
        return
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
        # More columns do not fit a terminal.
        few = list(rows) if len(rows) <= 3 else [next(iter(rows)), list(rows)[-1]]
        classes = table("class", [f"{title}\n{row}" for title in result.per_class.values() for row in few])
        for info in result.class_names:
            values = [rows[row][f"{key}/{info}"] for key in result.per_class for row in few]
            classes.add_row(info, *map(number, values))
        console.print(classes)
    means = table("", list(rows))
    for key, title in result.headline.items():
        means.add_row(title, *(number(rows[row][key]) for row in rows))
    console.print(means)
    if extras.speed is not None:
        console.print(str(extras.speed), highlight=False, soft_wrap=True)
    if extras.row is not None:
        print(f"\n{extras.row.text()}\n\n{extras.row.markdown()}")
