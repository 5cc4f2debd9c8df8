"""Models to use: by name or from a file, always with what is needed to run them."""

from pointrend.zoo.load import ModelEntry, list_models, load_model
from pointrend.zoo.modelfile import Model, ModelFileError, read_model, save_model
from pointrend.zoo.spec import ModelSpec

__all__ = [
    "Model",
    "ModelEntry",
    "ModelFileError",
    "ModelSpec",
    "list_models",
    "load_model",
    "read_model",
    "save_model",
]
