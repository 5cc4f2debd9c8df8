"""Training settings: the classes of all sections. The package's recipes are the YAML files in this folder."""

from pointrend.recipes.settings import (
    DataSettings,
    InstanceDataSettings,
    InstanceRecipe,
    MultiLabelRecipe,
    OptimSettings,
    Recipe,
    RefinerRecipe,
    SemanticRecipe,
    StartSettings,
    TrainSettings,
)

__all__ = [
    "DataSettings",
    "InstanceDataSettings",
    "InstanceRecipe",
    "MultiLabelRecipe",
    "OptimSettings",
    "Recipe",
    "RefinerRecipe",
    "SemanticRecipe",
    "StartSettings",
    "TrainSettings",
]
