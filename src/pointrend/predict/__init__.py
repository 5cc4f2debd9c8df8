"""Predict results of images, by one class a task."""

from pointrend.predict.base import Encoded, Predictor
from pointrend.predict.instance import InstancePredictor
from pointrend.predict.options import PredictOptions
from pointrend.predict.semantic import SemanticPredictor, cropped

__all__ = [
    "Encoded",
    "InstancePredictor",
    "PredictOptions",
    "Predictor",
    "SemanticPredictor",
    "cropped",
]
