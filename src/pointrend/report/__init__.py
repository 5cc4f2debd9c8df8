"""A report of an evaluation: one HTML file that opens without a network."""

from __future__ import annotations

from pointrend.report.collect import Collector, Findings
from pointrend.report.page import ReportContent, check_report, write_report
from pointrend.report.quality import QualityPoint, quality_by_points
from pointrend.report.trimap import WIDTHS, TrimapCounts

__all__ = [
    "WIDTHS",
    "Collector",
    "Findings",
    "QualityPoint",
    "ReportContent",
    "TrimapCounts",
    "check_report",
    "quality_by_points",
    "write_report",
]
