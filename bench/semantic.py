"""What rendering costs beside the network, for the model of the recipe people-lite0 with new weights.

New weights do the same work as trained ones: each step upsamples every class, ranks every pixel and predicts
N points. All parts are measured in turn in every repeat, so that a slow moment of the machine falls on all of
them; ratios are taken within a repeat.

    python bench/semantic.py --repeats 9 --json bench/out/semantic.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pointrend.core import resized_labels
from pointrend.files import write_atomically
from pointrend.models import SemanticPointRend, semantic_pointrend
from pointrend.train.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[1]
RECIPE = "people-lite0"
NUM_CLASSES = 12
SIZES = ((384, 512), (512, 1024), (1024, 2048))
PHOTO_SCALE = 2  # the last resize goes to a photograph of twice the network's size

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over the repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


@dataclass(frozen=True)
class Row:
    """One input size. Times are seconds for one image."""

    height: int
    width: int
    network: Spread
    rendering: Spread
    last_resize: Spread
    rendering_over_network: Spread


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=9, help="measurements of each part (default: 9)")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "out" / "semantic.json", metavar="PATH")
    arguments = parser.parse_args()
    if arguments.repeats < 2:
        parser.error(f"--repeats must be at least 2, got {arguments.repeats}")
    console = Console()
    recipe = load_recipe(RECIPE)
    rows = measure(recipe, repeats=arguments.repeats)
    console.print(table(rows, recipe, repeats=arguments.repeats))
    report = {
        "recipe": RECIPE,
        "num_classes": NUM_CLASSES,
        "num_points": recipe.test.num_points,
        "steps": recipe.test.steps,
        "photo_scale": PHOTO_SCALE,
        "repeats": arguments.repeats,
        "rows": [asdict(row) for row in rows],
        **environment(),
    }
    write_atomically(arguments.json, (json.dumps(report, indent=1) + "\n").encode())
    console.print(f"wrote {arguments.json}", highlight=False, soft_wrap=True)


@torch.inference_mode()
def measure(recipe: Recipe, *, repeats: int) -> list[Row]:
    """Time the parts of a prediction, interleaved, after one round that does not count."""
    torch.manual_seed(0)
    settings = recipe.model.model_dump(exclude={"weights"})
    network = semantic_pointrend(num_classes=NUM_CLASSES, **settings).eval().to(memory_format=torch.channels_last)
    inputs = [torch.randn(1, 3, *size).to(memory_format=torch.channels_last) for size in SIZES]
    times: list[list[tuple[float, float, float]]] = [[] for _ in SIZES]
    console = Console(stderr=True)
    for repeat in track(range(repeats + 1), description="measuring", console=console, transient=True):
        for image, found in zip(inputs, times, strict=True):
            parts = one_image(network, image, num_points=recipe.test.num_points, steps=recipe.test.steps)
            if repeat > 0:
                found.append(parts)
    rows = []
    for (height, width), found in zip(SIZES, times, strict=True):
        network_times, rendering, resize = (list(part) for part in zip(*found, strict=True))
        ratios = [r / n for n, r in zip(network_times, rendering, strict=True)]
        rows.append(Row(height, width, *map(Spread.of, (network_times, rendering, resize, ratios))))
    return rows


def one_image(
    network: SemanticPointRend, image: torch.Tensor, *, num_points: int, steps: int
) -> tuple[float, float, float]:
    """Seconds for the network, the rendering, and the resize to the photograph with its labels."""
    photo = (PHOTO_SCALE * image.shape[2], PHOTO_SCALE * image.shape[3])
    network_time, output = timed(lambda: network(image))
    rendering, logits = timed(lambda: network.render(output, num_points=num_points, steps=steps))
    resize, _ = timed(lambda: resized_labels(logits, photo))
    return network_time, rendering, resize


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """Seconds that a call takes, and what it returns."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def table(rows: list[Row], recipe: Recipe, *, repeats: int) -> Table:
    """The rows for reading: medians with quartiles."""
    made = Table(
        title=f"{RECIPE}, {NUM_CLASSES} classes, N = {recipe.test.num_points}, {recipe.test.steps} steps, "
        f"{torch.get_num_threads()} threads",
        caption=f"median (quartiles) of {repeats} repeats; milliseconds an image",
    )
    for name in ("input", "network", "rendering", f"labels at x{PHOTO_SCALE}", "rendering / network"):
        made.add_column(name, justify="right")
    for row in rows:
        parts = (row.network, row.rendering, row.last_resize)
        milliseconds = [Spread(1e3 * p.median, 1e3 * p.low, 1e3 * p.high) for p in parts]
        made.add_row(
            f"{row.height} x {row.width}",
            *(f"{m:.0f}" for m in milliseconds),
            f"{row.rendering_over_network:.2f}",
        )
    return made


def environment() -> dict[str, object]:
    """What a time depends on."""
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": processor(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("pointrend", "torch", "torchvision", "timm")},
        "commit": commit(),
    }


def processor() -> str:
    """The processor's name as Linux tells it, else as Python does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """The checkout's commit, with a plus where files differ from it; None without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    main()
