"""Where rendering's time goes: operators of PyTorch, of the dense way and of ours.

    python -m benchmarks.profile_rendering [LOGITS.py]

The first row of `python -m benchmarks`: 19 classes, from 256x512 to 1024x2048, 8196 points a step, on one thread.
LOGITS.py has a function realistic_logits(C, h, w); without it, logits are piecewise smooth.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.dense import dense_labels
from benchmarks.inputs import logits_from, piecewise_smooth_logits
from benchmarks.rows import scene, sparse
from pointrend.core import Subdivision

REPEATS = 5
# What operators do, as far as rendering is concerned.
GROUPS = {
    "matrix products": ("mm", "addmm", "bmm", "conv", "mkldnn", "slow_conv", "thnn"),
    "reading points": ("embedding_bag", "grid_sample", "grid_sampler"),
    "upsampling all classes": ("upsample",),
    "best classes, margins": ("amax", "max", "scatter", "eq", "argmax", "topk"),
}


def times(function: Callable[[], object]) -> tuple[float, Counter[str]]:
    """Return the milliseconds of a call, and of each group; top-k over classes and top-k over pixels are one group."""
    function()
    with profile(activities=[ProfilerActivity.CPU]) as made:
        for _ in range(REPEATS):
            function()
    found: Counter[str] = Counter()
    for event in made.key_averages():
        name = event.key.removeprefix("aten::").lstrip("_")
        group = next(
            (g for g, names in GROUPS.items() if name.startswith(names)), "the rest: look-ups, copies, indices"
        )
        found[group] += event.self_cpu_time_total / 1000 / REPEATS
    return sum(found.values()), found


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    make = logits_from(Path(sys.argv[1])) if len(sys.argv) > 1 else piecewise_smooth_logits
    made, subdivision = scene(make, 19, 256, 512), Subdivision(num_points=8196, steps=2)
    dense, by_dense = times(lambda: dense_labels(made.coarse, made.fine, made.head, subdivision))
    ours, by_ours = times(lambda: sparse(made, subdivision))
    print("| | dense, ms | of all | pointrend, ms | of all |\n|---|---|---|---|---|")
    for group in sorted({*by_dense, *by_ours}, key=lambda g: -by_ours[g]):
        a, b = by_dense[group], by_ours[group]
        print(f"| {group} | {a:.0f} | {a / dense:.0%} | {b:.0f} | {b / ours:.0%} |")
    print(f"| all | {dense:.0f} | | {ours:.0f} | |")


if __name__ == "__main__":
    main()
