"""`pointrend eval --report`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointrend.cli.errors import report as say
from pointrend.cli.scores import Extras
from pointrend.data import Sample, SampleSet
from pointrend.errors import PointRendError
from pointrend.evaluation import Evaluation
from pointrend.processes import Processes
from pointrend.report import Collector, ReportContent, check_report, quality_by_points, write_report
from pointrend.zoo import Model


@dataclass(frozen=True)
class Reporting:
    """A report that is being made."""

    folder: Path
    model: Model
    collector: Collector

    @classmethod
    def into(cls, folder: Path, model: Model, processes: Processes) -> Reporting:
        """Begin a report, after checking that it can be written."""
        if processes.count > 1:
            raise PointRendError(f"--report needs all images in one process, and {processes.count} share them")
        check_report(folder)
        if model.task.maps is None:
            raise PointRendError(f"there are no reports of {model.spec.task} models")
        return cls(folder, model, Collector(model.task.maps, model.spec.classes))

    def observe(self, sample: Sample, results: Mapping[str, Any]) -> None:
        """Add an image with its results by stage."""
        self.collector.observe(sample, results)

    def write(
        self,
        samples: SampleSet,
        data: Path,
        scores: Evaluation,
        extras: Extras,
        settings: Mapping[str, str],
        progress: Callable[[int, int], None],
    ) -> None:
        """Measure quality by points, write the report, and say where it is."""
        quality = quality_by_points(self.model, samples, limit=scores.num_images, progress=progress)
        content = ReportContent(
            model=self.model.spec.name,
            data=str(data),
            scores=scores,
            findings=self.collector.findings(),
            quality=quality,
            row=extras.row,
            speed=extras.speed,
            settings=settings,
        )
        say(f"the report is {write_report(self.folder, content)}", kind="note")
