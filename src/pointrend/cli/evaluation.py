"""The evaluation of a model by `pointrend eval`, with what was asked for beside the scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pointrend.cli.errors import report as say
from pointrend.cli.progress import Progress, checked, progressing
from pointrend.cli.reporting import Reporting
from pointrend.cli.scores import Extras
from pointrend.data import SampleSet
from pointrend.errors import PointRendError
from pointrend.evaluation import Evaluation, evaluate, measure_speed, published_row
from pointrend.predict import PredictOptions
from pointrend.processes import Processes
from pointrend.zoo import Model

AUGMENTED = "ms+flip"
"""What the names of the rows with several scales or flips end in, beside those without."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for beside the scores, and which images count."""

    fps: bool = False
    row: bool = False
    report: Path | None = None
    submit: Path | None = None
    limit: int | None = None
    boundary_ratio: float | None = None


class Job:
    """One evaluation.

    Args:
        model: from `load_model`.
        samples: the split.
        data: where it is, for messages.
        plain: the options without scales, flips and windows, whose speed is measured.
        changes: the options with them.
        wanted: what else is asked for.
        processes: which share the images.

    Raises:
        PointRendError: what is asked for cannot be had.
    """

    def __init__(
        self,
        model: Model,
        samples: SampleSet,
        data: Path,
        plain: PredictOptions,
        changes: PredictOptions,
        wanted: Wanted,
        processes: Processes,
    ) -> None:
        self.model, self.samples, self.data = model, samples, data
        self.plain, self.changes = plain, changes
        self.wanted, self.processes = wanted, processes
        if not samples.metrics and (wanted.row or wanted.report):
            raise PointRendError(f"{data} has no labels, so there is nothing for --row and --report")
        self.reporting = None if wanted.report is None else Reporting.into(wanted.report, model, processes)

    @property
    def both(self) -> bool:
        """Whether the plain prediction is scored beside the augmented one, as the published row has both."""
        return self.plain != self.changes and (self.wanted.row or self.wanted.report is not None)

    def run(self, settings: Mapping[str, str]) -> tuple[Evaluation, Extras]:
        """Score the model, and make what was asked for; `settings` are named in a report."""
        wanted = self.wanted
        with checked(self.samples, quiet=not self.processes.first) as progress:
            augmented = None
            if self.both:
                plain = self._scores(self.plain, progress("evaluating"))
                augmented = self._scores(self.changes, progress(f"evaluating {AUGMENTED}"))
                shown = _joined(plain, augmented)
            else:
                plain = shown = self._scores(self.changes, progress("evaluating"))
        if not self.processes.first:
            return shown, Extras()
        if wanted.submit is not None:
            form = self.samples.submission
            say(f"{wanted.submit}: the results of {shown.num_images} images, in the form {form}", kind="note")
        speed = None
        if wanted.fps:
            with progressing("measuring") as measured:
                speed = measure_speed(
                    self.model, self.samples, options=self.plain, limit=wanted.limit, progress=measured
                )
        row = None
        if wanted.row or wanted.report is not None:
            row = published_row(self.model.spec, plain, augmented=augmented, speed=speed)
        extras = Extras(speed, row if wanted.row else None)
        if self.reporting is not None:
            changed = ", ".join(f"{name} {getattr(self.changes, name)}" for name in self.changes.changed())
            asked = {"options": changed or "the model's own", **settings}
            with progressing("measuring points") as measured:
                self.reporting.write(self.samples, self.data, shown, replace(extras, row=row), asked, measured)
        return shown, extras

    def _scores(self, options: PredictOptions, progress: Progress) -> Evaluation:
        first = options == (self.plain if self.both else self.changes)
        return evaluate(
            self.model,
            self.samples,
            options=options,
            limit=self.wanted.limit,
            boundary_ratio=self.wanted.boundary_ratio,
            progress=progress,
            processes=self.processes,
            observe=self.reporting.observe if self.reporting is not None and first else None,
            submit=self.wanted.submit if options == self.changes else None,
        )


def _joined(plain: Evaluation, augmented: Evaluation) -> Evaluation:
    """Return both scores as rows of one evaluation."""
    more = {f"{row} {AUGMENTED}": numbers for row, numbers in augmented.rows.items()}
    return replace(augmented, rows={**plain.rows, **more})
