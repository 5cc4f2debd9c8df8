"""All rows in their order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.inputs import MakeLogits, boxes_of_photographs
from benchmarks.rows import Row, growth_rows, mask_row, rendering_row, start_up_row
from benchmarks.whole import ENGINES, many_row, street_row

RENDERINGS = ((19, (256, 512), 2, 8.0), (150, (128, 128), 2, 3.0), (19, (256, 512), 3, 20.0))
"""Classes, coarse grid, steps, and the ratio that is aimed at."""

GROUPS = ("render", "growth", "masks", "whole", "many", "start")
"""The groups of rows, in their order."""

STREET = (1024, 2048)
"""The photograph of a whole prediction."""


def measure(
    groups: Sequence[str],
    make_logits: MakeLogits,
    *,
    boxes: Path | None,
    repeats: int,
    most_steps: int,
    photos: int,
    progress: Callable[[str, int, int], None],
) -> list[Row]:
    """The rows of these groups; `progress` gets the group, and how many of its calls are done of how many."""

    def ticks(name: str, total: int) -> Callable[[], None]:
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            progress(name, done, total)

        return tick

    rows: list[Row] = []
    rounds = repeats + 1
    if "render" in groups:
        tick = ticks("render", 2 * rounds * len(RENDERINGS))
        for classes, coarse, steps, target in RENDERINGS:
            rows.append(
                rendering_row(
                    make_logits, classes=classes, coarse=coarse, steps=steps, target=target, repeats=repeats, tick=tick
                )
            )
    if "growth" in groups:
        tick = ticks("growth", rounds * (most_steps + min(3, most_steps)))
        rows += growth_rows(make_logits, most_steps=most_steps, repeats=repeats, tick=tick)
    if "masks" in groups:
        tick = ticks("masks", 4 * rounds)
        rows.append(
            mask_row(
                boxes_of_photographs(None),
                adaptive=False,
                name="100 boxes x 80 classes to 224x224",
                target=">= 4x, memory <= 1/10",
                repeats=repeats,
                tick=tick,
            )
        )
        real = boxes_of_photographs(boxes)
        rows.append(
            mask_row(
                real,
                adaptive=True,
                name=f"{len(real)} boxes of {'photographs' if boxes else 'drawn sizes'} at 800/1333, adaptive",
                target=">= 10x, IoU >= 0.995",
                repeats=repeats,
                tick=tick,
            )
        )
    with tempfile.TemporaryDirectory() as folder:
        if "whole" in groups:
            tick = ticks("whole", (2 + len(ENGINES)) * rounds)
            rows.append(street_row(make_logits, Path(folder), size=STREET, repeats=repeats, tick=tick))
        if "many" in groups:
            few = max(1, min(2, repeats))
            rows.append(many_row(Path(folder), count=photos, repeats=few, tick=ticks("many", 2 * (few + 1))))
    if "start" in groups:
        rows.append(start_up_row(repeats=repeats, tick=ticks("start", 3 * rounds)))
    return rows
