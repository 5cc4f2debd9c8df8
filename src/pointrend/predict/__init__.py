"""Predict results of images, by one class a task."""

from pointrend.predict.augmentation import Pass, Slide, TestAugmentation
from pointrend.predict.base import Encoded, Predictor
from pointrend.predict.frames import cropped
from pointrend.predict.instance import InstancePredictor
from pointrend.predict.multi_label import MultiLabelPredictor
from pointrend.predict.options import PredictOptions
from pointrend.predict.refining.predictor import RefinerPredictor
from pointrend.predict.semantic import SemanticPredictor

__all__ = [
    "Encoded",
    "InstancePredictor",
    "MultiLabelPredictor",
    "Pass",
    "PredictOptions",
    "Predictor",
    "RefinerPredictor",
    "SemanticPredictor",
    "Slide",
    "TestAugmentation",
    "cropped",
]
