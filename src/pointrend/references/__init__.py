"""Compare networks with numbers of other implementations, by one class a task."""

from pointrend.references.base import Check, Reference, ReferenceFileError, reference_image
from pointrend.references.instance import InstanceReference
from pointrend.references.semantic import SemanticReference

__all__ = [
    "Check",
    "InstanceReference",
    "Reference",
    "ReferenceFileError",
    "SemanticReference",
    "reference_image",
]
