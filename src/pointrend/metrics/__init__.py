"""Scores of predicted label maps: one confusion matrix and boundary counts over a whole data set."""

from __future__ import annotations

from pointrend.metrics.boundary import boundary_band, boundary_width
from pointrend.metrics.semantic import ClassScores, SemanticMetrics, SemanticScores

__all__ = ["ClassScores", "SemanticMetrics", "SemanticScores", "boundary_band", "boundary_width"]
