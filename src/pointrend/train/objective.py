"""The training loss of semantic PointRend (paper, section 4.2) as a module, so that any strategy can wrap it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointrend.core import point_accuracy, point_cross_entropy, sample_labels, semantic_cross_entropy, training_points
from pointrend.data import SemanticBatch
from pointrend.models import SemanticPointRend


class SemanticLosses(NamedTuple):
    """Scalars. A tuple, which every strategy knows how to look into."""

    total: Tensor
    coarse: Tensor
    points: Tensor
    accuracy: Tensor
    """The share of points whose label is predicted."""


class SemanticObjective(nn.Module):
    """Cross entropy on the upsampled coarse logits plus cross entropy on the points.

    Processes are kept in step through `forward`, so the point head is asked inside of it.

    Args:
        network: what is trained.
        num_points, oversample, importance: see `core.training_points`.
        coarse_weight, point_weight: of the two losses.
        class_weights: (C,), or None.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        network: SemanticPointRend,
        *,
        num_points: int = 2048,
        oversample: float = 3.0,
        importance: float = 0.75,
        coarse_weight: float = 1.0,
        point_weight: float = 1.0,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.num_points = num_points
        self.oversample = oversample
        self.importance = importance
        self.coarse_weight = coarse_weight
        self.point_weight = point_weight
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: SemanticBatch, seed: int) -> SemanticLosses:
        """The losses of a batch; `seed` decides the points."""
        images, labels = batch
        output = self.network(images)
        dense = F.interpolate(output.coarse.float(), size=labels.shape[1:], mode="bilinear", align_corners=False)
        coarse = semantic_cross_entropy(dense, labels, class_weights=self.class_weights)
        points = training_points(
            output.coarse.detach().float(),
            num_points=self.num_points,
            oversample=self.oversample,
            importance=self.importance,
            generator=torch.Generator(device=images.device).manual_seed(seed),
            padding=self.network.padding,
        )
        point_logits = self.network.point_logits(output, points)
        point_labels = sample_labels(labels, points)
        at_points = point_cross_entropy(point_logits, point_labels, class_weights=self.class_weights)
        return SemanticLosses(
            total=self.coarse_weight * coarse + self.point_weight * at_points,
            coarse=coarse.detach(),
            points=at_points.detach(),
            accuracy=point_accuracy(point_logits.detach(), point_labels),
        )
