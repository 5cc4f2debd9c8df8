"""Scores of a model on a split, always in rows: before and after rendering."""

from pointrend.evaluate.instance import InstanceEvaluation, evaluate_instances
from pointrend.evaluate.semantic import ROWS, Evaluation, check_classes, evaluate

__all__ = ["ROWS", "Evaluation", "InstanceEvaluation", "check_classes", "evaluate", "evaluate_instances"]
