"""Training by a recipe."""

from pointrend.training.loop import Outcome
from pointrend.training.run import train

__all__ = ["Outcome", "train"]
