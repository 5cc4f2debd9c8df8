"""PointRend: image segmentation as rendering, with crisp boundaries at full resolution."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pointrend.cutting import cut_out
    from pointrend.errors import PointRendError
    from pointrend.evaluation import Evaluation, evaluate
    from pointrend.models import InstancePointRend, SemanticPointRend, instance_pointrend, semantic_pointrend
    from pointrend.predict import Slide
    from pointrend.refining import refine, refiner
    from pointrend.results import InstanceResult, RefinedMask, SemanticResult
    from pointrend.training import train
    from pointrend.zoo import Model, attach, list_models, load_model, save_model

    __version__: str

# Imported on first use (PEP 562): torch takes seconds, and `pointrend --help` does not need it.
_NAMES = {
    "cutting": ("cut_out",),
    "errors": ("PointRendError",),
    "evaluation": ("Evaluation", "evaluate"),
    "models": ("InstancePointRend", "SemanticPointRend", "instance_pointrend", "semantic_pointrend"),
    "predict": ("Slide",),
    "refining": ("refine", "refiner"),
    "results": ("InstanceResult", "RefinedMask", "SemanticResult"),
    "training": ("train",),
    "zoo": ("Model", "attach", "list_models", "load_model", "save_model"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Evaluation",
    "InstancePointRend",
    "InstanceResult",
    "Model",
    "PointRendError",
    "RefinedMask",
    "SemanticPointRend",
    "SemanticResult",
    "Slide",
    "__version__",
    "attach",
    "cut_out",
    "evaluate",
    "instance_pointrend",
    "list_models",
    "load_model",
    "refine",
    "refiner",
    "save_model",
    "semantic_pointrend",
    "train",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("pointrend")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"pointrend.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals() | dict.fromkeys(__all__))
