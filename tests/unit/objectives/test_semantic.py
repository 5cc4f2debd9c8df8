from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pointrend.core import LossWeights, Sampling, sample_labels, training_points
from pointrend.data import SemanticBatch
from pointrend.models import PointArchitecture, SemanticArchitecture, semantic_pointrend
from pointrend.objectives import SemanticLoss
from pointrend.objectives.semantic import SemanticObjective


def objective(num_classes: int = 3, weights: LossWeights = LossWeights()) -> SemanticObjective:
    torch.manual_seed(0)
    network = semantic_pointrend(
        num_classes,
        SemanticArchitecture(
            backbone="test_efficientnet", fpn_channels=8, coarse_channels=8, point=PointArchitecture(hidden=8)
        ),
    )
    return SemanticObjective(network, SemanticLoss(sampling=Sampling(32), weights=weights))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 64, 48, generator=generator)
    return images, torch.randint(0, 3, (2, 64, 48), generator=generator)


def test_losses_are_those_of_the_paper_written_out() -> None:
    module, (images, labels) = objective().eval(), batch()
    losses = module(SemanticBatch(images, labels), 7)
    output = module.network(images)
    dense = F.interpolate(output.coarse, size=(64, 48), mode="bilinear", align_corners=False)
    assert losses.coarse == pytest.approx(F.cross_entropy(dense, labels).item(), rel=1e-5)
    points = training_points(output.coarse, Sampling(32), generator=torch.Generator().manual_seed(7))
    logits = module.network.point_logits(output, points)
    at_points = F.cross_entropy(logits.flatten(0, 1), sample_labels(labels, points).flatten())
    assert losses.points == pytest.approx(at_points.item(), rel=1e-5)
    assert losses.total.item() == pytest.approx(losses.coarse.item() + losses.points.item(), rel=1e-5)
    assert 0 <= losses.accuracy <= 1


def test_losses_can_be_averaged_over_ignored_pixels_too() -> None:
    """Both losses then shrink by the ratio of labelled pixels, and of labelled points."""
    module, (images, labels) = objective().eval(), batch()
    labels[:, :, :12] = 255  # a quarter of the pixels
    labelled = module(SemanticBatch(images, labels), 7)
    module.loss = SemanticLoss(sampling=Sampling(32), average="all")
    everywhere = module(SemanticBatch(images, labels), 7)
    assert everywhere.coarse.item() == pytest.approx(labelled.coarse.item() * 0.75, rel=1e-5)
    points = training_points(module.network(images).coarse, Sampling(32), generator=torch.Generator().manual_seed(7))
    ratio = (sample_labels(labels, points) != 255).float().mean().item()
    assert 0.5 < ratio < 0.95
    assert everywhere.points.item() == pytest.approx(labelled.points.item() * ratio, rel=1e-5)


def test_points_depend_on_the_seed_alone() -> None:
    module, (images, labels) = objective().eval(), batch()
    same = [module(SemanticBatch(images, labels), 3).points.item() for _ in range(2)]
    assert same[0] == same[1]
    assert module(SemanticBatch(images, labels), 4).points.item() != same[0]


def test_weights_scale_the_parts() -> None:
    module, (images, labels) = objective(weights=LossWeights(coarse=0.0, points=2.0)).eval(), batch()
    losses = module(SemanticBatch(images, labels), 3)
    assert losses.total.item() == pytest.approx(2 * losses.points.item(), rel=1e-5)


def test_gradients_reach_every_part() -> None:
    module, (images, labels) = objective(), batch()
    module(SemanticBatch(images, labels), 3).total.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("num_classes", [1, 3])
def test_an_ignored_image_in_the_batch_and_a_batch_of_nothing_else(num_classes: int) -> None:
    module, (images, labels) = objective(num_classes), batch()
    labels = labels.clamp(max=1)
    labels[0] = 255
    assert torch.isfinite(module(SemanticBatch(images, labels), 3).total)
    losses = module(SemanticBatch(images, torch.full_like(labels, 255)), 3)
    losses.total.backward()
    assert losses.total.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_trains_under_autocast() -> None:
    module, (images, labels) = objective(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = module(SemanticBatch(images, labels), 3)
    losses.total.backward()
    assert losses.total.dtype == torch.float32
