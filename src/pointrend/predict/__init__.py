"""Predict results of images, by one class a task."""

from pointrend.predict.base import Encoded, Predictor
from pointrend.predict.instance import SHOWN_SCORE, InstancePredictor
from pointrend.predict.options import PredictOptions
from pointrend.predict.semantic import SemanticPredictor, cropped

__all__ = [
    "SHOWN_SCORE",
    "Encoded",
    "InstancePredictor",
    "PredictOptions",
    "Predictor",
    "SemanticPredictor",
    "cropped",
]
