"""What was measured, for programs and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.rows import Row
from pointrend.files import atomic_path, write_atomically


def write_json(path: Path, rows: Sequence[Row], where: Mapping[str, object]) -> None:
    """All rows, and what their times depend on."""
    content = {**where, "rows": [asdict(row) for row in rows]}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def draw_growth(rows: Sequence[Row], path: Path) -> None:
    """Time and memory by the size of the output, on logarithmic axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    growth = [row for row in rows if row.name.startswith("growth")]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    sizes = [row.name.split()[1] for row in growth]
    for name, marker in (("dense", "s"), ("pointrend", "o")):
        some = [(i, row) for i, row in enumerate(growth) if name in row.seconds]
        left.plot([i for i, _ in some], [row.seconds[name].median for _, row in some], marker=marker, label=name)
        peaks = [(i, row.notes.get(f"{name} peak MB")) for i, row in some]
        known = [(i, float(peak)) for i, peak in peaks if peak]
        right.plot([i for i, _ in known], [peak for _, peak in known], marker=marker, label=name)
    for axes, title in ((left, "seconds"), (right, "largest MB above the inputs")):
        axes.set_yscale("log")
        axes.set_title(title)
        axes.set_xticks(range(len(sizes)), sizes, rotation=20)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
