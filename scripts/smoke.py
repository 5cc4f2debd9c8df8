"""Run help, a prediction, two training iterations and an evaluation with the installed pointrend, on made-up images.

    python scripts/smoke.py [predict]

With `predict` it stops after the predictions, for which the package alone is enough.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

COMMAND = Path(sys.executable).with_name("pointrend")


def run(*arguments: object) -> str:
    """Run the command and return what it prints; raise CalledProcessError if it fails."""
    return subprocess.run([COMMAND, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


def write_split(folder: Path, count: int) -> None:
    """Write images of a disc and their labels."""
    y, x = np.mgrid[:96, :128]
    for number in range(count):
        mask = (x - 40 - 20 * number) ** 2 + (y - 48) ** 2 < 500
        for name, values in (("images", np.where(mask, 200, 60)), ("labels", mask)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(folder / name / f"{number}.png")


def main() -> None:
    """Run everything in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_split(root / "data" / "train", 3)
        write_split(root / "data" / "val", 2)
        (root / "data" / "classes.json").write_text('["background", "disc"]')
        for command in ("predict", "refine", "train", "eval"):
            assert "Usage" in run(command, "--help")
        photo = root / "data" / "val" / "images" / "0.png"
        for model in ("person-lite0", "people-lite0", "nuclei-lite0"):
            (record,) = json.loads(run("predict", photo, "--model", model, "--out", root / model, "--json"))
            assert all(Path(file).is_file() for file in record["files"])
        if sys.argv[1:] == ["predict"]:
            print("predictions passed")
            return
        small = ["train.iterations=2", "train.batch_size=2", "start.weights=none", "data.layout=folder"]
        settings = [part for setting in small for part in ("--set", setting)]
        run("train", "people-lite0", "--data", root / "data", "--out", root / "run", *settings)
        rows = json.loads(run("eval", root / "run" / "last.safetensors", root / "data" / "val", "--json"))["rows"]
        assert rows["pointrend"]["miou"] is not None
    print("smoke test passed")


if __name__ == "__main__":
    main()
