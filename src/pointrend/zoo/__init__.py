"""Models by name or from a file, with everything that runs them."""

from pointrend.zoo.attaching import attach
from pointrend.zoo.load import ModelEntry, list_models, load_model
from pointrend.zoo.model import Model
from pointrend.zoo.modelfile import ModelFileError, read_model, read_spec, save_model

__all__ = [
    "Model",
    "ModelEntry",
    "ModelFileError",
    "attach",
    "list_models",
    "load_model",
    "read_model",
    "read_spec",
    "save_model",
]
