"""The row of a model in the form of the published tables."""

from __future__ import annotations

from dataclasses import dataclass

from pointrend.evaluation.speed import Speed
from pointrend.evaluation.split import Evaluation
from pointrend.spec import ModelSpec

MISSING = "-"
"""What stands for a number that was not measured."""


@dataclass(frozen=True)
class PublishedRow:
    """The published columns with the numbers of one model, as text; `MISSING` where a number was not measured."""

    cells: dict[str, str]

    def markdown(self) -> str:
        """Return a Markdown table of this row."""
        titles, values = " | ".join(self.cells), " | ".join(self.cells.values())
        return f"| {titles} |\n{'|---' * len(self.cells)}|\n| {values} |"

    def text(self) -> str:
        """Return two aligned lines."""
        widths = [max(len(title), len(value)) for title, value in self.cells.items()]
        lines = (self.cells.keys(), self.cells.values())
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )


def published_row(
    spec: ModelSpec, scores: Evaluation, *, augmented: Evaluation | None = None, speed: Speed | None = None
) -> PublishedRow:
    """Return a model's row: Method, Backbone, Crop size, Lr schd, Mem, Inf time, and its score.

    Args:
        spec: of the model. The crop, the iterations and the peak memory of its training are those in its file.
        scores: at one scale, without flips.
        augmented: with several scales or flips.
        speed: for the column "Inf time (fps)".
    """
    training = spec.training
    number, title = next(iter(scores.headline.items()))

    def score(evaluation: Evaluation | None) -> str:
        if evaluation is None:
            return MISSING
        *_, last = evaluation.rows.values()
        value = last[number]
        return MISSING if value != value else f"{value:.2f}"

    crop = training.crop if training else None
    memory = training.peak_memory if training else None
    return PublishedRow(
        {
            "Method": f"PointRend ({spec.name})",
            "Backbone": spec.backbone,
            "Crop size": MISSING if crop is None else f"{crop[0]}x{crop[1]}",
            "Lr schd": MISSING if training is None else str(training.iterations),
            "Mem (GB)": MISSING if memory is None else f"{memory / 1e9:.1f}",
            "Inf time (fps)": MISSING if speed is None else f"{speed.fps:.2f}",
            title: score(scores),
            f"{title}(ms+flip)": score(augmented),
        }
    )
