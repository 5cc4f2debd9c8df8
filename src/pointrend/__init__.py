"""PointRend: image segmentation as rendering, with crisp boundaries at full resolution."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pointrend.models import InstancePointRend as InstancePointRend
    from pointrend.models import SemanticPointRend as SemanticPointRend
    from pointrend.models import attach_pointrend as attach_pointrend
    from pointrend.models import instance_pointrend as instance_pointrend
    from pointrend.models import semantic_pointrend as semantic_pointrend
    from pointrend.predict import InstancePredictor as InstancePredictor
    from pointrend.predict import Predictor as Predictor
    from pointrend.predict import SemanticPredictor as SemanticPredictor
    from pointrend.results import InstanceResult as InstanceResult
    from pointrend.results import SemanticResult as SemanticResult
    from pointrend.zoo import list_models as list_models
    from pointrend.zoo import load_model as load_model

    __version__: str

# Imported when first asked for (PEP 562): torch takes seconds, and `pointrend --help` does not need it.
_HOMES = {
    "InstancePointRend": "pointrend.models",
    "InstancePredictor": "pointrend.predict",
    "InstanceResult": "pointrend.results",
    "Predictor": "pointrend.predict",
    "SemanticPointRend": "pointrend.models",
    "SemanticPredictor": "pointrend.predict",
    "SemanticResult": "pointrend.results",
    "attach_pointrend": "pointrend.models",
    "instance_pointrend": "pointrend.models",
    "list_models": "pointrend.zoo",
    "load_model": "pointrend.zoo",
    "semantic_pointrend": "pointrend.models",
}

__all__ = [
    "InstancePointRend",
    "InstancePredictor",
    "InstanceResult",
    "Predictor",
    "SemanticPointRend",
    "SemanticPredictor",
    "SemanticResult",
    "__version__",
    "attach_pointrend",
    "instance_pointrend",
    "list_models",
    "load_model",
    "semantic_pointrend",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("pointrend")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals() | dict.fromkeys(__all__))
