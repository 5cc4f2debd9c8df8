"""Evaluation on a split: of a model, in rows before and after rendering, or of a results file."""

from pointrend.evaluation.results_file import evaluate_results
from pointrend.evaluation.split import Evaluation, Scoring, check_class_names, evaluate, score_split
from pointrend.evaluation.submissions import submission

__all__ = ["Evaluation", "Scoring", "check_class_names", "evaluate", "evaluate_results", "score_split", "submission"]
