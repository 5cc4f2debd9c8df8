"""Metrics of predictions on a split.

A new metric is one new file in this folder, with a class that derives from `pointrend.metrics.base.SplitMetric` and has
a `name`; all modules of the folder are searched.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from pointrend.errors import PointRendError

if TYPE_CHECKING:
    from pointrend.metrics.base import MetricSettings, SplitMetric

    METRICS: dict[str, type[SplitMetric]]

__all__ = ["METRICS", "metrics_named"]


def metrics_named(names: Sequence[str], settings: MetricSettings) -> list[SplitMetric]:
    """Create the metrics with these names.

    Raises:
        PointRendError: a metric does not exist, or does not accept the settings.
        ImportError: a package that a metric needs is not installed; the message has the install command.
    """
    metrics = _find_metrics()
    for name in names:
        if name not in metrics:
            nearest_first = difflib.get_close_matches(name, metrics, n=len(metrics), cutoff=0.0)
            raise PointRendError(f"unknown metric {name!r}; choose one of {', '.join(nearest_first)}")
    return [metrics[name](settings) for name in names]


def __getattr__(name: str) -> Any:
    # METRICS is built on first access because it needs torchmetrics, which is optional for prediction.
    if name == "METRICS":
        return _find_metrics()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _find_metrics() -> dict[str, type[SplitMetric]]:
    """Return the metrics that the modules of this folder define, by name."""
    from pointrend.metrics.base import SplitMetric

    metrics: dict[str, type[SplitMetric]] = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name.startswith("_"):  # imports an optional package
            continue
        module = importlib.import_module(f"{__name__}.{info.name}")
        for value in vars(module).values():
            defined_here = isinstance(value, type) and value.__module__ == module.__name__
            # Base classes have no name.
            if defined_here and issubclass(value, SplitMetric) and "name" in vars(value):
                metrics[value.name] = value
    return metrics
