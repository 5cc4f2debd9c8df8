"""The training loss of refined masks as a module, so that any strategy can wrap it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pointrend.core import LossWeights, Subdivision, pixel_centers, point_accuracy, point_cross_entropy
from pointrend.core.mask_input import mask_channels, outline_band
from pointrend.data import IGNORE, SemanticBatch
from pointrend.models.hosts.probe import evaluating
from pointrend.models.refiner import MaskRefiner
from pointrend.objectives.semantic import SemanticLosses
from pointrend.processes import mean_over_processes
from pointrend.strict import Strict

PASSED = Subdivision(num_points=4096, steps=2)
"""How a mask is rendered that the network is given again."""


class RefinerLoss(Strict):
    """The settings of `RefinerObjective`, and the recipe's section `loss`."""

    num_points: int = Field(3072, ge=1, description="of each window, random ones near the outlines")
    reach: int = Field(16, ge=1, le=256, description="pixels around the outlines of truth and given mask")
    again_every: int = Field(
        3, ge=0, description="of so many batches one is given the network's own result, as a second pass is; 0: none"
    )
    weights: LossWeights = LossWeights()


class RefinerObjective(nn.Module):
    """Binary cross entropy near the outlines of the truth and of the given mask, of coarse logits and of points.

    Args:
        network: to train.
        loss: points and weights.
    """

    def __init__(self, network: MaskRefiner, loss: RefinerLoss = RefinerLoss()) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def counted(self, batch: SemanticBatch) -> Tensor:
        """Return what the losses of a batch are averaged over, relative to other batches."""
        return (batch.labels != IGNORE).sum()

    def forward(self, batch: SemanticBatch, seed: int) -> SemanticLosses:
        """Return the losses of a batch whose images are the network's input (N, 6, H, W); points depend on `seed`."""
        images, labels = batch
        if self.loss.again_every and seed % self.loss.again_every == 0:
            images = self._again(images)
        output = self.network(images)
        size = (labels.shape[1], labels.shape[2])
        near = outline_band((labels == 1)[:, None], self.loss.reach) | outline_band(images[:, 5:] > 0, self.loss.reach)
        coarse_labels = torch.where(near[:, 0], labels, IGNORE)
        upsampled = self.network.upsampled(output, size)[:, 0]
        each = F.binary_cross_entropy_with_logits(upsampled, (labels == 1).float(), reduction="none")
        counted = coarse_labels != IGNORE
        coarse = (each * counted).sum() / mean_over_processes(counted.sum().float()).clamp(min=1)

        chance = near[:, 0].flatten(1).float() + 1e-3  # windows without an outline have points too
        generator = torch.Generator(device=images.device).manual_seed(seed)
        number = min(self.loss.num_points, chance.shape[1])
        indices = torch.multinomial(chance, number, generator=generator)
        points = pixel_centers(indices, size)
        point_logits = self.network.point_logits(output, points)
        point_labels = labels.flatten(1).gather(1, indices)
        at_points = point_cross_entropy(point_logits, point_labels, count=mean_over_processes)
        weights = self.loss.weights
        return SemanticLosses(
            total=weights.coarse * coarse + weights.points * at_points,
            coarse=coarse.detach(),
            points=at_points.detach(),
            auxiliary=torch.zeros_like(coarse),
            accuracy=point_accuracy(point_logits.detach(), point_labels),
            region=torch.zeros_like(coarse),
        )

    @torch.no_grad()
    def _again(self, images: Tensor) -> Tensor:
        """Return the input of a second pass: the network's own result in the place of the current mask."""
        with evaluating(self.network):
            result = self.network.render(self.network(images), PASSED).sigmoid()
        given = (images[:, 5:] + 1) / 2
        return torch.cat((images[:, :3], mask_channels(result.to(images), given)), dim=1)
