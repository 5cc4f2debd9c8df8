"""Training for instance segmentation: what the loop asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from pointrend.data.instance_layouts import InstanceSet
from pointrend.data.instance_transforms import instance_transform
from pointrend.data.instances import InstanceBatch, InstanceDataset, collate
from pointrend.data.sampling import repeat_factors
from pointrend.evaluate import evaluate_instances
from pointrend.models import InstancePointRend
from pointrend.predict import InstancePredictor
from pointrend.train.freeze import freeze_backbone
from pointrend.train.instance_objective import InstanceObjective
from pointrend.train.recipe import InstanceRecipe
from pointrend.train.task import Scores
from pointrend.zoo.modelfile import InstanceModel, build
from pointrend.zoo.spec import InstanceArchitecture, InstanceSpec


class InstanceTask:
    """See `pointrend.train.task.Task`.

    Args:
        recipe: all settings.
        train_samples: what is trained on; already checked.
        val_samples: what is evaluated on; None never evaluates.
    """

    def __init__(self, recipe: InstanceRecipe, train_samples: InstanceSet, val_samples: InstanceSet | None) -> None:
        self.recipe = recipe
        self.train_samples = train_samples
        self.val_samples = val_samples
        self.spec = instance_spec(recipe, train_samples)

    @property
    def num_images(self) -> tuple[int, int]:
        return len(self.train_samples.samples), len(self.val_samples.samples) if self.val_samples else 0

    @property
    def evaluates(self) -> bool:
        return self.val_samples is not None

    @property
    def repeats(self) -> np.ndarray | None:
        threshold = self.recipe.augment.repeat_threshold
        return repeat_factors(self.train_samples, threshold) if threshold else None

    @property
    def collate(self) -> Callable[[list[Any]], InstanceBatch]:
        return collate

    def build(self) -> InstancePointRend:
        return build(self.spec)

    def freeze(self, network: nn.Module) -> None:
        assert isinstance(network, InstancePointRend)
        settings = self.recipe.model
        freeze_backbone(network.backbone, norm=settings.freeze_norm, stages=settings.freeze_stages)

    def dataset(self) -> InstanceDataset:
        recipe, augment = self.recipe, self.recipe.augment
        transform = instance_transform(
            mean=recipe.input.mean,
            std=recipe.input.std,
            channels=recipe.input.channels,
            shortest=augment.shortest,
            longest=augment.longest,
            scale=augment.scale,
            crop=augment.crop,
            flip=augment.flip,
            dihedral=augment.dihedral,
            photometric=augment.photometric,
            grayscale=augment.grayscale,
        )
        return InstanceDataset(self.train_samples, transform)

    def objective(self, network: nn.Module) -> InstanceObjective:
        assert isinstance(network, InstancePointRend)
        loss = self.recipe.loss
        return InstanceObjective(
            network,
            proposals_per_level=loss.proposals_per_level,
            max_proposals=loss.max_proposals,
            regions=loss.regions,
            positive_share=loss.positive_share,
            num_points=loss.num_points,
            oversample=loss.oversample,
            importance=loss.importance,
            coarse_weight=loss.coarse_weight,
            point_weight=loss.point_weight,
        )

    def evaluate(self, network: nn.Module, device: torch.device) -> Scores:
        assert isinstance(network, InstancePointRend)
        assert self.val_samples is not None
        predictor = InstancePredictor(InstanceModel(network, self.spec), device=device)
        found = evaluate_instances(predictor, self.val_samples, limit=self.recipe.train.eval_images)
        values: dict[str, float] = {}
        lines: list[str] = []
        for name, row in found.rows.items():
            scores = row.scores
            values |= {
                f"{name}/mask_ap": scores.mask.ap,
                f"{name}/mask_ap50": scores.mask.ap50,
                f"{name}/boundary_ap": scores.boundary.ap,
                f"{name}/mean_f1": row.f1.mean,
            }
            lines.append(
                f"{name:9s}  mask AP {scores.mask.ap:5.2f}  AP50 {scores.mask.ap50:5.2f}  "
                f"Boundary AP {scores.boundary.ap:5.2f}  mean F1 {row.f1.mean:5.2f}"
            )
        last = list(found.rows.values())[-1].scores.mask.ap
        return Scores(main=-1.0 if math.isnan(last) else last, values=values, lines=tuple(lines))


def instance_spec(recipe: InstanceRecipe, samples: InstanceSet) -> InstanceSpec:
    """What the model files of a training say of themselves."""
    numbers = recipe.model.model_dump(exclude={"weights", "freeze_norm", "freeze_stages"})
    return InstanceSpec(
        name=recipe.name,
        architecture=InstanceArchitecture(num_classes=len(samples.classes), **numbers),
        classes=samples.classes,
        input=recipe.input,
        test=recipe.test,
        layout=samples.name,
    )
