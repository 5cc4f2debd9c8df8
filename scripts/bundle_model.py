"""Make a trained model into one that the package carries: float16, with its data, licence and scores.

    python scripts/bundle_model.py RUN/best.safetensors --scores eval.json --data "..." --licence "..."

`eval.json` is what `pointrend eval RUN/best.safetensors DATA --json` printed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from pointrend.zoo.modelfile import SemanticModel, read_model, read_spec, save_model

WEIGHTS = Path(__file__).parent.parent / "src" / "pointrend" / "weights"


def _semantic(row: dict[str, Any]) -> dict[str, float]:
    return {key: round(row[key], 2) for key in ("miou", "boundary_iou", "boundary_f")}


def _instance(row: dict[str, Any]) -> dict[str, float]:
    values = {
        "mask_ap": row["mask"]["ap"],
        "mask_ap50": row["mask"]["ap50"],
        "boundary_ap": row["boundary"]["ap"],
        "mean_f1": row["f1"]["mean_f1"],
    }
    return {key: round(value, 2) for key, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--data", required=True, help="what it was trained on")
    parser.add_argument("--licence", required=True)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()

    model = read_model(arguments.model)
    rows = json.loads(arguments.scores.read_text())["rows"]
    *_, last = rows
    values = _semantic if isinstance(model, SemanticModel) else _instance
    scores = {**values(rows[last]), **{f"coarse_{key}": value for key, value in values(rows["coarse"]).items()}}
    spec = model.spec.model_copy(update={"data": arguments.data, "licence": arguments.licence, "scores": scores})
    path = arguments.out / f"{spec.name}.safetensors"
    save_model(path, model.network.state_dict(), spec, dtype=torch.float16)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {read_spec(path).scores}")


if __name__ == "__main__":
    main()
