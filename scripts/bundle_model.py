"""Make a trained model into one that the package carries: float16, with its data, licence and scores.

    python scripts/bundle_model.py RUN/best.safetensors --scores eval.json --data "..." --licence "..."

`eval.json` is what `pointrend eval RUN/best.safetensors DATA --json` printed; of a refiner, with `--corrupt all`.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from pointrend.zoo import read_model, read_spec, save_model

WEIGHTS = Path(__file__).parent.parent / "src" / "pointrend" / "weights"


REFINED = ("true", "x16", "x32-soft", "eroded")
"""The kinds of masks of which a refiner's file states Boundary IoU at 0.5 % of the diagonal, given and refined."""
SCORES = {
    "semantic": ("miou", "boundary_iou", "boundary_f"),
    "instance": ("mask_ap", "mask_ap50", "boundary_ap", "mean_f1"),
}
"""The numbers that the file states, by the model's task."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--data", required=True, help="what it was trained on")
    parser.add_argument("--licence", required=True)
    parser.add_argument("--usual-certainty", type=float, help="the 5th percentile of `certainty` over the val images")
    parser.add_argument("--threshold", type=float, help="take the second of two classes from this probability on")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()

    model = read_model(arguments.model)
    if arguments.threshold is not None:
        shift_logit(model.network, math.log((1 - arguments.threshold) / arguments.threshold))
    found = json.loads(arguments.scores.read_text())
    changes = {"data": arguments.data, "licence": arguments.licence, "scores": stated(model.spec.task, found)}
    if arguments.usual_certainty is not None:
        changes["usual_certainty"] = arguments.usual_certainty
    model.spec = spec = model.spec.model_copy(update=changes)
    path = arguments.out / f"{spec.name}.safetensors"
    save_model(model, path, dtype=torch.float16)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {read_spec(path).scores}")


@torch.no_grad()
def shift_logit(network: Any, shift: float) -> None:
    """Add a number to the only logit of a semantic network, coarse and at points, and change nothing else.

    The point head's layers see the coarse logit, as their last input, and are made to see it as it was.
    """
    network.coarse_head.classifier.bias += shift
    head = network.point_head
    for number, layer in enumerate((*head.layers, head.classifier)):
        if head.coarse_every_layer or number == 0:
            layer.bias -= shift * layer.weight[:, -1]
    head.classifier.bias += shift


def stated(task: str, found: Any) -> dict[str, float]:
    """Return the scores that the file states, in percent."""
    if task == "refinement":
        of_kind = {row["kind"]: row for row in found}
        return {
            f"boundary_iou_{kind}{suffix}": round(of_kind[kind][side]["boundary_iou_05"], 2)
            for kind in REFINED
            for side, suffix in (("after", ""), ("before", "_given"))
        }
    rows = found["rows"]
    *_, last = rows
    names = SCORES[task]
    scores = {name: round(rows[last][name], 2) for name in names}
    return scores | {f"coarse_{name}": round(rows["coarse"][name], 2) for name in names}


if __name__ == "__main__":
    main()
