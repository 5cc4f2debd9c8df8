"""The table of tasks, one row each. Code that depends on the task looks it up here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from pointrend.data import SampleSet, instance_batch, semantic_batch
from pointrend.models import MaskRefiner, instance_pointrend, resolved_architecture, semantic_pointrend
from pointrend.objectives import InstanceObjective, RefinerObjective, SemanticObjective, balanced_weights
from pointrend.predict import InstancePredictor, MultiLabelPredictor, Predictor, RefinerPredictor, SemanticPredictor
from pointrend.recipes import InstanceRecipe, MultiLabelRecipe, Recipe, RefinerRecipe, SemanticRecipe
from pointrend.references import InstanceReference, Reference, SemanticReference
from pointrend.scoring import (
    COVERED_PIXELS,
    LABELS,
    LabelMaps,
    predicted_instances,
    predicted_labels,
    true_instances,
    true_labels,
)
from pointrend.spec import InstanceSpec, ModelSpec, MultiLabelSpec, RefinerSpec, SemanticSpec, num_logits


@dataclass(frozen=True)
class Task:
    """A kind of segmentation, from training to results."""

    spec: type[ModelSpec]
    """The description in a model file."""
    num_logits: Callable[[int], int]
    """Returns the number of logits for a number of classes."""
    network: Callable[[int, Any], nn.Module]
    """Builds a network with new weights from its number of logits and its architecture."""
    resolved: Callable[[Any, int], Any]
    """Completes an architecture, of which a recipe may leave open what a dry run finds, for a number of logits."""
    recipe: type[Recipe]
    """The settings of a training."""
    collate: Callable[[list[Any]], Any]
    """Collates items of a data set to a batch."""
    objective: Callable[[Any, Any, SampleSet], nn.Module]
    """Builds the training loss from a network, a recipe and the training split."""
    predictor: type[Predictor[Any, Any, Any, Any]]
    """Predicts results of images."""
    prediction: Callable[[Any, int], Any]
    """Converts a result and its image's number to what metrics take."""
    truth: Callable[[Any, int, tuple[int, int]], Any]
    """Converts an image's annotations, its number and its size to what metrics take."""
    main_score: str
    """The score that selects the best model of a training; higher is better."""
    reference: type[Reference] | None
    """Reads and compares numbers of other implementations; None: there are none."""
    maps: LabelMaps | None = None
    """Label maps of results and of annotations, for reports; None: there are no reports."""
    command: str = "pointrend predict PHOTO --model {model} --out out"
    """How a model file is used, for the end of a training."""
    needs: str | None = None
    """What an image alone lacks for a prediction, and what to do; None: nothing."""
    windows: Callable[[Any, Path], Dataset[Any]] | None = None
    """Draws the windows that are trained on, from a recipe and a folder; None: samples of a split are."""
    explains: bool = False
    """Whether `pointrend.explain` can draw how a result was rendered."""
    check_loss: Callable[[Any, int], None] = lambda loss, num_classes: None
    """Raises if the settings of the loss do not fit a number of classes, or need a package that is missing."""
    samples: str | None = None
    """The task of the data sets that models are trained and scored on; None: its own."""
    metrics: tuple[str, ...] = ()
    """Metrics that take the place of a data set's own; none: those are taken."""


def _semantic_objective(network: Any, recipe: SemanticRecipe, samples: SampleSet) -> nn.Module:
    loss = recipe.loss
    loss.check(len(samples.classes), independent=network.independent)
    if loss.class_weights is not None:
        return SemanticObjective(network, loss, torch.tensor(loss.class_weights))
    return SemanticObjective(
        network, loss, balanced_weights(samples, loss.class_balance) if loss.class_balance else None
    )


def _mask_windows(recipe: RefinerRecipe, root: Path) -> Dataset[Any]:
    from pointrend.data.masks.sources import mask_windows  # needs packages that predictions do not

    return mask_windows(recipe.data, recipe.augment, recipe.input, root)


TASKS: dict[str, Task] = {
    "semantic": Task(
        spec=SemanticSpec,
        num_logits=num_logits,
        network=semantic_pointrend,
        resolved=resolved_architecture,
        recipe=SemanticRecipe,
        collate=semantic_batch,
        objective=_semantic_objective,
        predictor=SemanticPredictor,
        prediction=predicted_labels,
        truth=true_labels,
        main_score="miou",
        reference=SemanticReference,
        maps=LABELS,
        explains=True,
        check_loss=lambda loss, num_classes: loss.check(num_classes, independent=False),
    ),
    "multi-label": Task(
        spec=MultiLabelSpec,
        num_logits=lambda num_classes: num_classes,
        network=semantic_pointrend,
        resolved=resolved_architecture,
        recipe=MultiLabelRecipe,
        collate=semantic_batch,
        objective=_semantic_objective,
        predictor=MultiLabelPredictor,
        prediction=predicted_labels,
        truth=true_labels,
        main_score="miou",
        reference=SemanticReference,
        check_loss=lambda loss, num_classes: loss.check(num_classes, independent=True),
        samples="semantic",
        metrics=("multi-label",),
    ),
    "instance": Task(
        spec=InstanceSpec,
        num_logits=lambda num_classes: num_classes,
        network=instance_pointrend,
        resolved=lambda architecture, num_logits: architecture,
        recipe=InstanceRecipe,
        collate=instance_batch,
        objective=lambda network, recipe, samples: InstanceObjective(network, recipe.loss),
        predictor=InstancePredictor,
        prediction=predicted_instances,
        truth=true_instances,
        main_score="mask_ap",
        reference=InstanceReference,
        maps=COVERED_PIXELS,
    ),
    "refinement": Task(
        spec=RefinerSpec,
        num_logits=num_logits,
        network=lambda num_logits, architecture: MaskRefiner(architecture),
        resolved=lambda architecture, num_logits: architecture,
        recipe=RefinerRecipe,
        collate=semantic_batch,
        objective=lambda network, recipe, samples: RefinerObjective(network, recipe.loss),
        predictor=RefinerPredictor,
        prediction=predicted_labels,
        truth=true_labels,
        main_score="boundary_iou",
        reference=None,
        command="pointrend refine PHOTO MASK --model {model} --out out",
        needs="a mask to refine: pointrend.refine(image, mask), or pointrend refine PHOTO MASK --out OUT",
        windows=_mask_windows,
    ),
}


def samples_of(task: str) -> str:
    """Return the task of the data sets that models of a task are trained and scored on."""
    return TASKS[task].samples or task
