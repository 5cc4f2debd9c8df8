"""The training loss of semantic PointRend (paper, section 4.2) as a module, so that any strategy can wrap it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
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
from pointrend.errors import PointRendError
from pointrend.models import SemanticNetwork
from pointrend.objectives.mining import HardPixels, hard_labels
from pointrend.objectives.regions import dice_loss, lovasz_loss, require_region_losses
from pointrend.processes import mean_over_processes
from pointrend.strict import Strict

Weight = Annotated[float, Field(ge=0, le=MAX_FACTOR)]


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
    class_weights: tuple[Weight, ...] | None = Field(
        None, description="the weight of each class, in the order of the data's; None: 1, or by class_balance"
    )
    cross_entropy: Weight = Field(1.0, description="weight of the cross entropy of pixels and points; 0: off")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of the cross entropy: what all classes share equally")
    focal: Weight = Field(0.0, description="weight of the focal loss of pixels and points; 0: off")
    focal_gamma: float = Field(2.0, gt=0, le=10, description="the focal loss has (1 - p) to this power")
    dice: Weight = Field(0.0, description="weight of the Dice loss of the coarse prediction; 0: off")
    lovasz: Weight = Field(0.0, description="weight of the Lovász loss of the coarse prediction; 0: off")
    ohem: HardPixels = HardPixels()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.cross_entropy and not self.focal:
            raise ValueError("points are trained by cross_entropy or focal: set one of them above 0, got 0 for both")
        if self.class_weights is not None and self.class_balance:
            raise ValueError(
                f"class_weights and class_balance exclude each other: set class_balance to 0, got {self.class_balance}"
            )
        if self.class_weights is not None and not any(self.class_weights):
            raise ValueError("class_weights must have one above 0, got none")
        return self

    def check(self, num_classes: int, *, independent: bool) -> None:
        """Raise `PointRendError` if the settings do not fit the classes, `ImportError` if a package is missing."""
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise PointRendError(
                f"loss.class_weights: expected a weight for each of the {num_classes} classes, "
                f"got {len(self.class_weights)}"
            )
        if self.ohem.threshold and independent:
            raise PointRendError(
                "loss.ohem: chooses pixels by the probability of their only class, and the classes of a multi-label "
                "model do not exclude each other; set loss.ohem.threshold to 0"
            )
        if self.dice or self.lovasz:
            require_region_losses()


class SemanticLosses(NamedTuple):
    """Scalar losses; a NamedTuple, because Fabric strategies traverse tuples."""

    total: Tensor
    coarse: Tensor
    points: Tensor
    auxiliary: Tensor
    """The sum of all auxiliary heads; 0 without any."""
    accuracy: Tensor
    """The ratio of points that are classified correctly."""
    region: Tensor
    """The losses of regions, which are part of `total` with the weight of `coarse`."""


class SemanticObjective(nn.Module):
    """Cross entropy on the upsampled coarse logits plus cross entropy on the points.

    Where classes do not exclude each other it is the binary cross entropy of each. The focal loss is added to it, or
    takes its place, everywhere. What compares regions, Dice and Lovász, is added on the upsampled coarse logits alone:
    points are no regions. Easy pixels are left out (`ohem`) of the coarse and the auxiliary logits: points are chosen
    where the network is unsure anyway.

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
        counted = torch.ones_like(labels, dtype=torch.bool) if self.loss.average == "all" else labels != IGNORE
        if self.class_weights is None or self.loss.average == "all":
            return counted.sum()
        return (self.class_weights[torch.where(counted, labels, 0)] * counted).sum()

    def forward(self, batch: SemanticBatch, seed: int) -> SemanticLosses:
        """Return the losses of a batch; points depend on `seed`."""
        images, labels = batch
        output = self.network(images)
        upsampled = self.network.upsampled(output, (labels.shape[1], labels.shape[2]))
        independent = self.network.independent
        coarse = self._of_pixels(upsampled, self._counting(upsampled, labels))
        region = coarse.new_zeros(())
        for weight, loss in ((self.loss.dice, dice_loss), (self.loss.lovasz, lovasz_loss)):
            if weight:
                region = region + weight * loss(upsampled, labels, independent=independent)
        points = training_points(
            self.network.start(output).detach().float(),
            self.loss.sampling,
            generator=torch.Generator(device=images.device).manual_seed(seed),
            padding=self.network.padding,
            measure=partial(uncertainty, independent=independent),
        )
        point_logits = self.network.point_logits(output, points)
        point_labels = sample_labels(labels, points)
        at_points = self._of_pixels(point_logits.transpose(1, 2), point_labels)
        auxiliary = coarse.new_zeros(())
        for logits in output.auxiliary if self.loss.auxiliary_weight else ():
            upsampled = F.interpolate(logits.float(), size=labels.shape[1:], mode="bilinear", align_corners=False)
            auxiliary = auxiliary + self._of_pixels(upsampled, self._counting(upsampled, labels))
        weights = self.loss.weights
        return SemanticLosses(
            total=weights.coarse * (coarse + region)
            + weights.points * at_points
            + self.loss.auxiliary_weight * auxiliary,
            coarse=coarse.detach(),
            points=at_points.detach(),
            auxiliary=auxiliary.detach(),
            accuracy=point_accuracy(point_logits.detach(), point_labels, independent=independent),
            region=region.detach(),
        )

    def _of_pixels(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the losses that pixels or points (N, C, ...) have each on their own."""
        cross_entropy = partial(
            independent_cross_entropy if self.network.independent else semantic_cross_entropy,
            logits,
            labels,
            class_weights=self.class_weights,
            average=self.loss.average,
            count=mean_over_processes,
        )
        loss = logits.new_zeros((), dtype=torch.float32)
        if self.loss.cross_entropy:
            loss = loss + self.loss.cross_entropy * cross_entropy(label_smoothing=self.loss.label_smoothing)
        if self.loss.focal:
            loss = loss + self.loss.focal * cross_entropy(focal_gamma=self.loss.focal_gamma)
        return loss

    def _counting(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return labels of which easy pixels are ignored, if that is wanted."""
        return hard_labels(logits, labels, self.loss.ohem) if self.loss.ohem.threshold else labels


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
