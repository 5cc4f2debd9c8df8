"""Training for semantic segmentation: what the loop asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from pointrend.data import IGNORE, SampleSet, SemanticBatch, SemanticDataset, read_labels, train_transform
from pointrend.evaluate import ROWS, evaluate
from pointrend.models import SemanticPointRend
from pointrend.predict import SemanticPredictor
from pointrend.train.objective import SemanticObjective
from pointrend.train.recipe import SemanticRecipe
from pointrend.train.task import Scores
from pointrend.zoo.modelfile import SemanticModel, build
from pointrend.zoo.spec import SemanticArchitecture, SemanticSpec, num_logits

METRICS = ("miou", "boundary_iou", "boundary_f", "pixel_accuracy")


class SemanticTask:
    """See `pointrend.train.task.Task`.

    Args:
        recipe: all settings.
        train_samples: what is trained on; already checked.
        val_samples: what is evaluated on; None never evaluates.
    """

    repeats: np.ndarray | None = None

    def __init__(self, recipe: SemanticRecipe, train_samples: SampleSet, val_samples: SampleSet | None) -> None:
        self.recipe = recipe
        self.train_samples = train_samples
        self.val_samples = val_samples
        self.spec = semantic_spec(recipe, train_samples)

    @property
    def num_images(self) -> tuple[int, int]:
        return len(self.train_samples.samples), len(self.val_samples.samples) if self.val_samples else 0

    @property
    def evaluates(self) -> bool:
        return self.val_samples is not None

    @property
    def collate(self) -> Callable[[list[Any]], SemanticBatch]:
        return semantic_batch

    def build(self) -> SemanticPointRend:
        return build(self.spec)

    def freeze(self, network: nn.Module) -> None:
        """Everything is trained."""

    def dataset(self) -> SemanticDataset:
        recipe, augment = self.recipe, self.recipe.augment
        transform = train_transform(
            crop=augment.crop,
            mean=recipe.input.mean,
            std=recipe.input.std,
            scale=augment.scale,
            base_scale=augment.base_scale,
            base_short=augment.base_short,
            max_share=augment.max_class_share,
            flip=augment.flip,
            photometric=augment.photometric,
            rotate=augment.rotate,
            grayscale=augment.grayscale,
        )
        return SemanticDataset(self.train_samples, transform)

    def objective(self, network: nn.Module) -> SemanticObjective:
        assert isinstance(network, SemanticPointRend)
        loss = self.recipe.loss
        return SemanticObjective(
            network,
            num_points=loss.num_points,
            oversample=loss.oversample,
            importance=loss.importance,
            coarse_weight=loss.coarse_weight,
            point_weight=loss.point_weight,
            class_weights=balanced_weights(self.train_samples, loss.class_balance) if loss.class_balance else None,
        )

    def evaluate(self, network: nn.Module, device: torch.device) -> Scores:
        assert isinstance(network, SemanticPointRend)
        assert self.val_samples is not None
        predictor = SemanticPredictor(SemanticModel(network, self.spec), device=device)
        found = evaluate(predictor, self.val_samples, limit=self.recipe.train.eval_images)
        rows = {row: getattr(found, row) for row in ROWS}
        return Scores(
            main=found.pointrend.miou,
            values={f"{row}/{metric}": getattr(rows[row], metric) for row in ROWS for metric in METRICS},
            lines=tuple(
                f"{row:9s}  mIoU {scores.miou:5.2f}  Boundary IoU {scores.boundary_iou:5.2f}  "
                f"Boundary F {scores.boundary_f:5.2f}"
                for row, scores in rows.items()
            ),
        )


def semantic_spec(recipe: SemanticRecipe, samples: SampleSet) -> SemanticSpec:
    """What the model files of a training say of themselves."""
    return SemanticSpec(
        name=recipe.name,
        architecture=SemanticArchitecture(
            num_classes=num_logits(len(samples.classes)), **recipe.model.model_dump(exclude={"weights"})
        ),
        classes=samples.classes,
        input=recipe.input,
        test=recipe.test,
        layout=samples.name,
    )


def semantic_batch(samples: list[tuple[Tensor, Tensor]]) -> SemanticBatch:
    """Images and labels of one size, stacked."""
    images, labels = default_collate(samples)
    return SemanticBatch(images, labels)


def balanced_weights(samples: SampleSet, power: float, *, most: float = 5.0, images: int = 200) -> Tensor:
    """Class weights `(median frequency / frequency) ** power`, from evenly spaced label files, in [1 / most, most]."""
    counts = np.zeros(256, dtype=np.int64)
    step = max(1, len(samples.samples) // images)
    for sample in samples.samples[::step]:
        counts += np.bincount(samples.lookup[read_labels(sample.label)].ravel(), minlength=256)
    assert IGNORE == 255
    frequency = torch.from_numpy(counts[: len(samples.classes)]).float().clamp(min=1)
    return ((frequency.median() / frequency) ** power).clamp(1 / most, most)
