"""The rows of the benchmark's table, each measured side by side with what it is compared to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from benchmarks.dense import dense_labels, dense_masks
from benchmarks.inputs import MakeLogits
from benchmarks.measure import peak_bytes
from pointrend.core import Subdivision, render_labels
from pointrend.core.pasting import paste_mask
from pointrend.models.fast_masks import FastMasks
from pointrend.models.mask_head import CoarseMaskHead, PointRendMaskHead
from pointrend.models.point_evaluator import FastPoints
from pointrend.models.point_head import PointHead
from pointrend.timing import Spread, interleaved, ratios

FINE = 256
"""Channels of the fine features, as published."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    target: str
    """What was aimed at."""
    seconds: dict[str, Spread]
    ratio: Spread | None = None
    """How many times as fast as the reference."""
    notes: dict[str, float | int | str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """What a semantic network leaves to rendering."""

    coarse: Tensor
    """(1, C, h, w), NCHW."""
    fine: Tensor
    """(1, 256, h, w), NCHW."""
    rows: Tensor
    """The fine features as networks give them here: channels-last."""
    head: PointHead


def scene(make_logits: MakeLogits, classes: int, height: int, width: int) -> Scene:
    """Coarse logits, random fine features, and a point head as it is initialised."""
    torch.manual_seed(0)
    fine = torch.randn(1, FINE, height, width)
    head = PointHead(in_channels=FINE, num_classes=classes).eval()
    coarse = make_logits(classes, height, width)
    return Scene(coarse, fine, fine.contiguous(memory_format=torch.channels_last), head)


def sparse(made: Scene, subdivision: Subdivision) -> Tensor:
    """Labels by our renderer; the time to bring the coarse logits into its layout counts."""
    coarse = made.coarse.contiguous(memory_format=torch.channels_last)
    return render_labels(coarse, FastPoints(made.head, [made.rows], coarse), subdivision)


@torch.inference_mode()
def rendering_row(
    make_logits: MakeLogits,
    *,
    classes: int,
    coarse: tuple[int, int],
    steps: int,
    target: float,
    num_points: int = 8196,
    repeats: int,
    tick: Callable[[], None],
) -> Row:
    """The rendering stage: from coarse logits and fine features to labels."""
    made = scene(make_logits, classes, *coarse)
    subdivision = Subdivision(num_points, steps)

    def reference() -> Tensor:
        return dense_labels(made.coarse, made.fine, made.head, subdivision)

    def ours() -> Tensor:
        return sparse(made, subdivision)

    differ = int((reference() != ours()).sum())
    times = interleaved({"dense": reference, "pointrend": ours}, repeats=repeats, tick=tick)
    out = f"{coarse[0] << steps}x{coarse[1] << steps}"
    return Row(
        name=f"render, C={classes}, {coarse[0]}x{coarse[1]} -> {out}, N={num_points}",
        target=f">= {target:g}x",
        seconds={name: Spread.of(values) for name, values in times.items()},
        ratio=ratios(times, "dense", "pointrend"),
        notes={"labels that differ": differ},
    )


@torch.inference_mode()
def growth_rows(make_logits: MakeLogits, *, most_steps: int, repeats: int, tick: Callable[[], None]) -> list[Row]:
    """Time and memory from 512x1024 on, each step twice as large; the dense way for the first three steps only."""
    made = scene(make_logits, 19, 256, 512)
    rows: list[Row] = []
    for steps in range(1, most_steps + 1):
        subdivision = Subdivision(num_points=8196, steps=steps)
        functions: dict[str, Callable[[], Tensor]] = {"pointrend": partial(sparse, made, subdivision)}
        if steps <= 3:
            functions["dense"] = partial(dense_labels, made.coarse, made.fine, made.head, subdivision)
        peak = {f"{name} peak MB": _megabytes(peak_bytes(function)) for name, function in functions.items()}
        times = interleaved(functions, repeats=repeats, tick=tick)
        seconds = {name: Spread.of(values) for name, values in times.items()}
        before = rows[-1].seconds["pointrend"].median if rows else None
        times_longer = None if before is None else round(seconds["pointrend"].median / before, 2)
        rows.append(
            Row(
                name=f"growth: {256 << steps}x{512 << steps} ({steps} steps)",
                target="< 2000 MB, <= 2.3x the step before" if steps == 5 else "",
                seconds=seconds,
                ratio=ratios(times, "dense", "pointrend") if "dense" in times else None,
                notes={**peak, "times the step before": times_longer},
            )
        )
    return rows


@torch.inference_mode()
def mask_row(boxes: Tensor, *, adaptive: bool, name: str, target: str, repeats: int, tick: Callable[[], None]) -> Row:
    """Instances: from P2, coarse masks of 80 classes and boxes to masks of 224x224 cells."""
    torch.manual_seed(0)
    size = (800, 1344)
    fine = torch.randn(1, FINE, size[0] // 4, size[1] // 4)
    rows = fine.contiguous(memory_format=torch.channels_last)
    head = PointRendMaskHead(
        coarse_head=CoarseMaskHead(in_channels=FINE, num_classes=80),
        point_head=PointHead(in_channels=FINE, num_classes=80),
    ).eval()
    torch.nn.init.normal_(head.coarse_head.classifier.weight, std=0.1)
    torch.nn.init.normal_(head.point_head.classifier.weight, std=0.05)
    classes = torch.arange(len(boxes)) % 80
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) if adaptive else None

    def reference() -> Tensor:
        coarse = head.coarse(fine, [boxes], size)
        return dense_masks(fine, coarse, boxes, classes, head, size)

    def ours() -> Tensor:
        return FastMasks(head, [rows], size).render(boxes, classes, pixels=sides)[-1][:, 0]

    functions = {"all classes": reference, "pointrend": ours}
    agreement = mean_pasted_iou(reference(), ours(), boxes, size)
    peaks = {name: peak_bytes(function) for name, function in functions.items()}
    times = interleaved(functions, repeats=repeats, tick=tick)
    notes: dict[str, float | int | str | None] = {
        **{f"{key} peak MB": _megabytes(value) for key, value in peaks.items()},
        "mean IoU after pasting": round(agreement, 5),
    }
    return Row(
        name=name,
        target=target,
        seconds={key: Spread.of(values) for key, values in times.items()},
        ratio=ratios(times, "all classes", "pointrend"),
        notes=notes,
    )


def mean_pasted_iou(first: Tensor, second: Tensor, boxes: Tensor, size: tuple[int, int]) -> float:
    """Of mask logits (R, M, M), pasted into an image; two empty masks agree."""
    total = 0.0
    for one, other, box in zip(first, second, boxes, strict=True):
        a, b = (paste_mask(mask.sigmoid(), box, size, mode="area")[1] >= 0.5 for mask in (one, other))
        union = int((a | b).sum())
        total += int((a & b).sum()) / union if union else 1.0
    return total / max(1, len(boxes))


def start_up_row(*, repeats: int, tick: Callable[[], None]) -> Row:
    """How long a fresh process takes until it can begin."""

    def run(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    times = interleaved(
        {
            "import torch": run("-c", "import torch"),
            "import torch, pointrend": run("-c", "import torch, pointrend"),
            "pointrend --help": run("-c", "from pointrend.cli import main; main(['--help'])"),
        },
        repeats=repeats,
        tick=tick,
    )
    return Row(name="start-up", target="", seconds={name: Spread.of(values) for name, values in times.items()})


def _megabytes(value: int | None) -> float | None:
    return None if value is None else round(value / 1e6, 1)
