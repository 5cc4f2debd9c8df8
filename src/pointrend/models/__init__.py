"""Thin modules: parameters and a forward. Every number is a keyword argument."""

from pointrend.models.backbones import Backbone
from pointrend.models.coarse import SemanticFPNHead
from pointrend.models.point_head import PointHead
from pointrend.models.semantic import SemanticOutput, SemanticPointRend, semantic_pointrend

__all__ = ["Backbone", "PointHead", "SemanticFPNHead", "SemanticOutput", "SemanticPointRend", "semantic_pointrend"]
