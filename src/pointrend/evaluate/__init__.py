"""Scores on a split: of a model, always in rows, before and after rendering; or of a file of results."""

from pointrend.evaluate.instance import InstanceEvaluation, evaluate_instances
from pointrend.evaluate.results_file import evaluate_results
from pointrend.evaluate.semantic import ROWS, Evaluation, check_classes, evaluate

__all__ = [
    "ROWS",
    "Evaluation",
    "InstanceEvaluation",
    "check_classes",
    "evaluate",
    "evaluate_instances",
    "evaluate_results",
]
