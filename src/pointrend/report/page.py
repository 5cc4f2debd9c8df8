"""The page of a report."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from pointrend import __version__
from pointrend.errors import PointRendError
from pointrend.evaluation import Evaluation, PublishedRow, Speed
from pointrend.files import write_atomically
from pointrend.report.charts import MAX_CONFUSION, confusion_chart, quality_chart, trimap_chart
from pointrend.report.collect import Change, Findings
from pointrend.report.pictures import labels_picture, picture
from pointrend.report.quality import QualityPoint

REPORT_FILE = "report.html"
CONFUSIONS = 12
"""The number of listed confusions."""


@dataclass(frozen=True)
class ReportContent:
    """What a report shows."""

    model: str
    data: str
    scores: Evaluation
    findings: Findings
    quality: Sequence[QualityPoint] = ()
    row: PublishedRow | None = None
    speed: Speed | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """What was asked for, by name: options, device, engine."""


def write_report(folder: str | Path, content: ReportContent) -> Path:
    """Write `report.html` into a folder, which is created if it is missing; it needs no other file and no network.

    Raises:
        PointRendError: the folder is a file, or has a `report.html` of another program.
    """
    path = Path(folder) / REPORT_FILE
    check_report(folder)
    environment = Environment(
        loader=PackageLoader("pointrend.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("report.html.jinja").render(_values(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())
    return path


MARK = '<meta name="generator" content="pointrend">'
"""In every report, so that files of others are not replaced."""


def check_report(folder: str | Path) -> None:
    """Raise `PointRendError` if a report cannot be written into a folder."""
    path = Path(folder) / REPORT_FILE
    if Path(folder).exists() and not Path(folder).is_dir():
        raise PointRendError(f"{folder}: a report is written into a folder, and this is a file")
    if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise PointRendError(f"{path}: was not written by pointrend and is not replaced; choose another folder")


def _values(content: ReportContent) -> dict[str, Any]:
    scores, findings = content.scores, content.findings
    names = [info.name for info in findings.classes]
    first, *_, last = scores.rows
    headline = [
        (
            title,
            [_number(scores.rows[row][key]) for row in scores.rows],
            scores.rows[last][key] - scores.rows[first][key],
        )
        for key, title in scores.headline.items()
    ]
    main = next(iter(scores.headline))
    return {
        "mark": MARK,
        "model": content.model,
        "data": content.data,
        "images": scores.num_images,
        "settings": {**content.settings, **_versions()},
        "row": content.row,
        "speed": content.speed,
        "stages": list(scores.rows),
        "headline": headline,
        "per_class": [
            (name, [_number(scores.rows[row][f"{key}/{name}"]) for key in scores.per_class for row in scores.rows])
            for name in scores.class_names
        ]
        if scores.per_class
        else [],
        "per_class_titles": [f"{title} {row}" for title in scores.per_class.values() for row in scores.rows],
        "trimap": trimap_chart({stage: counts.miou() for stage, counts in findings.trimap.items()}),
        "trimap_rows": [(stage, list(map(_number, counts.miou()))) for stage, counts in findings.trimap.items()],
        "quality": [
            quality_chart(content.quality, main, scores.headline[main], by_time=by_time) for by_time in (False, True)
        ]
        if content.quality
        else [],
        "quality_images": content.quality[0].images if content.quality else 0,
        "confusion": confusion_chart(findings.confusion, names) if len(names) <= MAX_CONFUSION else None,
        "confusions": _confusions(findings.confusion, names),
        "findings": findings,
        "groups": [
            (title, [_shown(change, findings) for change in changes])
            for title, changes in (("gain most", findings.gains), ("lose most", findings.losses))
        ],
        "ignored": bool(any((change.truth == 255).any() for change in (*findings.gains, *findings.losses))),
    }


def _shown(change: Change, findings: Findings) -> dict[str, Any]:
    panels = [("the image", picture(change.photo))]
    for title, labels in (("truth", change.truth), ("coarse", change.coarse), ("rendered", change.rendered)):
        panels.append((title, labels_picture(change.photo, labels, findings.classes)))
    left, top, right, bottom = change.window
    shown = sorted(set(np.unique(np.stack((change.truth, change.coarse, change.rendered))).tolist()) - {255})
    return {
        "name": change.name,
        "gain": f"{change.gain:+.2f}",
        "window": f"x {left} to {right}, y {top} to {bottom}",
        "panels": panels,
        "legend": [
            (findings.classes[index].name, "#{:02x}{:02x}{:02x}".format(*findings.classes[index].color))
            for index in shown
        ],
    }


def _confusions(confusion: np.ndarray, names: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Return the most frequent wrong pairs: true class, predicted class, percent of the true one, and of all wrong."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    total = max(1, int(wrong.sum()))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [divmod(int(index), len(names)) for index in order]
    return [
        (
            names[true],
            names[predicted],
            f"{100 * wrong[true, predicted] / max(1, int(confusion[true].sum())):.1f}",
            f"{100 * wrong[true, predicted] / total:.1f}",
        )
        for true, predicted in pairs
        if wrong[true, predicted]
    ]


def _versions() -> dict[str, str]:
    return {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": f"pointrend {__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}",
    }


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"
