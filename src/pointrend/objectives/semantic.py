"""The training loss of semantic PointRend (paper, section 4.2) as a module, so that any strategy can wrap it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pointrend.core import (
    LABEL_SAMPLING,
    Average,
    LossWeights,
    Sampling,
    independent_cross_entropy,
    point_accuracy,
    sample_labels,
    semantic_cross_entropy,
    training_points,
    uncertainty,
)
from pointrend.core.settings import MAX_FACTOR
from pointrend.data import IGNORE, SampleSet, SemanticBatch
from pointrend.data.images import image_size
from pointrend.models import SemanticNetwork
from pointrend.processes import mean_over_processes
from pointrend.strict import Strict


class SemanticLoss(Strict):
    """The settings of `SemanticObjective`, and the recipe's section `loss`."""

    sampling: Sampling = LABEL_SAMPLING
    weights: LossWeights = LossWeights()
    average: Average = Field(
        "labelled",
        description="losses are averaged over labelled pixels and points, or over all, ignored ones included",
    )
    auxiliary_weight: float = Field(
        0.4,
        ge=0,
        le=MAX_FACTOR,
        description="of the mean cross entropy of each auxiliary head, on networks that have any",
    )
    class_balance: float = Field(
        0.0, ge=0, le=1, description="classes weigh (median frequency / frequency) to this power, at most 5"
    )


class SemanticLosses(NamedTuple):
    """Scalar losses; a NamedTuple, because Fabric strategies traverse tuples."""

    total: Tensor
    coarse: Tensor
    points: Tensor
    auxiliary: Tensor
    """The sum of all auxiliary heads; 0 without any."""
    accuracy: Tensor
    """The ratio of points that are classified correctly."""


class SemanticObjective(nn.Module):
    """Cross entropy on the upsampled coarse logits plus cross entropy on the points.

    Where classes do not exclude each other it is the binary cross entropy of each.

    Auxiliary heads of hosts are trained by cross entropy on their upsampled logits, as mmsegmentation and transformers
    train them (weight 0.4; torchvision's references have 0.5).

    Strategies synchronise processes through `forward`, so the point head is called inside of it.

    Args:
        network: to train.
        loss: points and weights.
        class_weights: (C,), or None.
    """

    class_weights: Tensor | None

    def __init__(
        self, network: SemanticNetwork, loss: SemanticLoss = SemanticLoss(), class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.register_buffer("class_weights", class_weights, persistent=False)

    def counted(self, batch: SemanticBatch) -> Tensor:
        """Return what the losses of a batch are averaged over, relative to other batches."""
        labels = batch.labels
        return torch.tensor(labels.numel()) if self.loss.average == "all" else (labels != IGNORE).sum()

    def forward(self, batch: SemanticBatch, seed: int) -> SemanticLosses:
        """Return the losses of a batch; points depend on `seed`."""
        images, labels = batch
        output = self.network(images)
        upsampled = self.network.upsampled(output, (labels.shape[1], labels.shape[2]))
        independent = self.network.independent
        cross_entropy = partial(
            independent_cross_entropy if independent else semantic_cross_entropy,
            class_weights=self.class_weights,
            average=self.loss.average,
            count=mean_over_processes,
        )
        coarse = cross_entropy(upsampled, labels)
        points = training_points(
            self.network.start(output).detach().float(),
            self.loss.sampling,
            generator=torch.Generator(device=images.device).manual_seed(seed),
            padding=self.network.padding,
            measure=partial(uncertainty, independent=independent),
        )
        point_logits = self.network.point_logits(output, points)
        point_labels = sample_labels(labels, points)
        at_points = cross_entropy(point_logits.transpose(1, 2), point_labels)
        auxiliary = coarse.new_zeros(())
        for logits in output.auxiliary if self.loss.auxiliary_weight else ():
            upsampled = F.interpolate(logits.float(), size=labels.shape[1:], mode="bilinear", align_corners=False)
            auxiliary = auxiliary + cross_entropy(upsampled, labels)
        weights = self.loss.weights
        return SemanticLosses(
            total=weights.coarse * coarse + weights.points * at_points + self.loss.auxiliary_weight * auxiliary,
            coarse=coarse.detach(),
            points=at_points.detach(),
            auxiliary=auxiliary.detach(),
            accuracy=point_accuracy(point_logits.detach(), point_labels, independent=independent),
        )


def balanced_weights(samples: SampleSet, power: float, *, maximum: float = 5.0, images: int = 200) -> Tensor:
    """Return class weights (C,) that make rare classes count more.

    They are `(median frequency / frequency) ** power`, from evenly spaced label images, within [1 / maximum, maximum].
    """
    counts = np.zeros(256, dtype=np.int64)
    step = max(1, len(samples.samples) // images)
    for sample in samples.samples[::step]:
        labels: Tensor = sample.annotations.read(image_size(sample.image))
        counts += np.bincount(labels.numpy().ravel(), minlength=256)
    assert IGNORE == 255
    frequency = torch.from_numpy(counts[: len(samples.classes)]).float().clamp(min=1)
    return ((frequency.median() / frequency) ** power).clamp(1 / maximum, maximum)
