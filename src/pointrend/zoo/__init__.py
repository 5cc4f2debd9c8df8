"""Models to use: by name or from a file, always with what is needed to run them."""

from pointrend.zoo.load import ModelEntry, list_models, load_model
from pointrend.zoo.modelfile import InstanceModel, Model, ModelFileError, SemanticModel, read_model, save_model
from pointrend.zoo.spec import InstanceSpec, ModelSpec, SemanticSpec

__all__ = [
    "InstanceModel",
    "InstanceSpec",
    "Model",
    "ModelEntry",
    "ModelFileError",
    "ModelSpec",
    "SemanticModel",
    "SemanticSpec",
    "list_models",
    "load_model",
    "read_model",
    "save_model",
]
