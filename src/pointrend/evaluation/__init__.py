"""Evaluation on a split: of a model, in rows before and after rendering, or of a results file."""

from pointrend.evaluation.results_file import evaluate_results
from pointrend.evaluation.row import PublishedRow, published_row
from pointrend.evaluation.speed import Speed, measure_speed
from pointrend.evaluation.split import Evaluation, Scoring, check_class_names, evaluate, score_split
from pointrend.evaluation.submissions import submission

__all__ = [
    "Evaluation",
    "PublishedRow",
    "Scoring",
    "Speed",
    "check_class_names",
    "evaluate",
    "evaluate_results",
    "measure_speed",
    "published_row",
    "score_split",
    "submission",
]
