"""Results of predictions, and the files written from them."""

from pointrend.results.base import Result
from pointrend.results.files import CSV_HEADER, SOFTWARE, is_ours
from pointrend.results.instance import Instance, InstanceResult, InstanceRow
from pointrend.results.masks import LazyMasks
from pointrend.results.multi_label import MultiLabelResult
from pointrend.results.refined import RefinedMask
from pointrend.results.semantic import Segment, SemanticResult

__all__ = [
    "CSV_HEADER",
    "SOFTWARE",
    "Instance",
    "InstanceResult",
    "InstanceRow",
    "LazyMasks",
    "MultiLabelResult",
    "RefinedMask",
    "Result",
    "Segment",
    "SemanticResult",
    "is_ours",
]
