"""Refinement of masks that come from anywhere."""

from pointrend.refining.api import Refiner, refine, refiner
from pointrend.refining.masks import KINDS, Fit, Kind

__all__ = ["KINDS", "Fit", "Kind", "Refiner", "refine", "refiner"]
