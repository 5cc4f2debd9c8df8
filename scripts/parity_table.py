"""Compare our numbers with those of the original implementations, and print the table of docs/parity.md.

    python scripts/parity_table.py PARITY

PARITY holds `keys/*.json` (names and shapes of each published checkpoint), `synthetic_weights.py` (which fills them by
a rule) and `golden/*.npz` (what the original code computes with these weights).
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

from pointrend.references import Check
from pointrend.verify import read_reference, verify
from pointrend.zoo import Model
from pointrend.zoo.convert import to_model
from pointrend.zoo.manifest import PUBLISHED

COLUMNS = {
    "semantic": ("c2", "c5", "p2", "coarse", "logits"),
    "instance": (
        "p2",
        "rpn_objectness_p4",
        "rpn_deltas_p4",
        "class_logits",
        "box_deltas",
        "coarse_masks",
        "mask_probs",
        "proposals",
        "detections",
    ),
}


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    rule = load_rule(folder / "synthetic_weights.py")

    @cache
    def model(name: str) -> Model:
        weights = rule.checkpoint(folder / "keys" / f"{name.replace('-', '_')}.json")
        tensors = {key: torch.from_numpy(value) for key, value in weights.items()}
        return to_model(tensors, PUBLISHED[name])

    for task, columns in COLUMNS.items():
        print(f"| reference | {' | '.join(columns)} | pixels above |")
        print(f"|---|{'---|' * (len(columns) + 1)}")
        for path in sorted((folder / "golden").glob("*.npz")):
            name = next((n for n in PUBLISHED if path.stem.startswith(n.replace("-", "_") + "_")), None)
            if name is None or PUBLISHED[name].spec.task != task:
                continue
            checks = {check.name: check for check in verify(model(name), read_reference(path))}
            cells = [_cell(checks[c]) if c in checks else "" for c in columns]
            last = checks["logits" if task == "semantic" else "mask_probs"]
            print(f"| {path.stem} | {' | '.join(cells)} | {100 * last.ratio:.2f} % |", flush=True)
        print()


def _cell(check: Check) -> str:
    if check.counted == "unmatched":
        return f"{100 * (1 - check.ratio):.0f} % matched"
    return f"{check.difference:.1e}"


def load_rule(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthetic_weights", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
