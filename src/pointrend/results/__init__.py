"""What predictions are, and how they are written down."""

from pointrend.results.files import CSV_HEADER, SOFTWARE, is_ours
from pointrend.results.instance import INSTANCE_SUFFIXES, InstanceResult, InstanceRow
from pointrend.results.masks import LazyMasks
from pointrend.results.semantic import OUTPUT_SUFFIXES, SemanticResult

__all__ = [
    "CSV_HEADER",
    "INSTANCE_SUFFIXES",
    "OUTPUT_SUFFIXES",
    "SOFTWARE",
    "InstanceResult",
    "InstanceRow",
    "LazyMasks",
    "SemanticResult",
    "is_ours",
]
