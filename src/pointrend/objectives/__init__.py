"""Training losses as modules, one a task, with their settings."""

from pointrend.objectives.instance import InstanceLoss, InstanceObjective
from pointrend.objectives.refinement import RefinerLoss, RefinerObjective
from pointrend.objectives.semantic import SemanticLoss, SemanticObjective, balanced_weights

__all__ = [
    "InstanceLoss",
    "InstanceObjective",
    "RefinerLoss",
    "RefinerObjective",
    "SemanticLoss",
    "SemanticObjective",
    "balanced_weights",
]
