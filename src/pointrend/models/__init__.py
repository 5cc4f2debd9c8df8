"""Thin modules: parameters and a forward. Their numbers come in small frozen classes, passed whole."""

from pointrend.models.attach import attach
from pointrend.models.backbones import Backbone
from pointrend.models.coarse import SemanticFPNHead
from pointrend.models.hosts.layouts import resolved_architecture
from pointrend.models.instance import InstanceFeatures, InstanceOutput, InstancePointRend, instance_pointrend
from pointrend.models.mask_head import CoarseMaskHead, PointRendMaskHead
from pointrend.models.point_head import PointHead
from pointrend.models.refiner import MaskRefiner
from pointrend.models.semantic import SemanticPointRend, semantic_pointrend
from pointrend.models.semantic_network import SemanticNetwork, SemanticOutput
from pointrend.models.settings import (
    Detection,
    InstanceArchitecture,
    MaskArchitecture,
    PointArchitecture,
    RefinerArchitecture,
    SemanticArchitecture,
)

__all__ = [
    "Backbone",
    "CoarseMaskHead",
    "Detection",
    "InstanceArchitecture",
    "InstanceFeatures",
    "InstanceOutput",
    "InstancePointRend",
    "MaskArchitecture",
    "MaskRefiner",
    "PointArchitecture",
    "PointHead",
    "PointRendMaskHead",
    "RefinerArchitecture",
    "SemanticArchitecture",
    "SemanticFPNHead",
    "SemanticNetwork",
    "SemanticOutput",
    "SemanticPointRend",
    "attach",
    "instance_pointrend",
    "resolved_architecture",
    "semantic_pointrend",
]
