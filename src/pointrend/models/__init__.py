"""Thin modules: parameters and a forward. Every number is a keyword argument."""

from pointrend.models.attach import attach_pointrend
from pointrend.models.backbones import Backbone
from pointrend.models.coarse import SemanticFPNHead
from pointrend.models.instance import InstanceFeatures, InstanceOutput, InstancePointRend, instance_pointrend
from pointrend.models.mask_head import CoarseMaskHead, PointRendMaskHead
from pointrend.models.point_head import PointHead
from pointrend.models.semantic import SemanticOutput, SemanticPointRend, semantic_pointrend

__all__ = [
    "Backbone",
    "CoarseMaskHead",
    "InstanceFeatures",
    "InstanceOutput",
    "InstancePointRend",
    "PointHead",
    "PointRendMaskHead",
    "SemanticFPNHead",
    "SemanticOutput",
    "SemanticPointRend",
    "attach_pointrend",
    "instance_pointrend",
    "semantic_pointrend",
]
