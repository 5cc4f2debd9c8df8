"""The network that refines masks, its loss, and where heads start."""

from __future__ import annotations

import pytest
import torch

from pointrend.core import regular_grid, sample_points
from pointrend.core.mask_input import mask_channels
from pointrend.data import SemanticBatch
from pointrend.models import MaskRefiner, PointArchitecture, PointHead
from pointrend.objectives import RefinerLoss, RefinerObjective


@pytest.fixture(scope="module")
def network() -> MaskRefiner:
    torch.manual_seed(0)
    return MaskRefiner().eval()


def inputs(size: tuple[int, int] = (64, 96)) -> torch.Tensor:
    mask = torch.zeros(1, 1, *size)
    mask[..., size[1] // 2 :] = 1
    return torch.cat((torch.randn(1, 3, *size), mask_channels(mask, mask)), dim=1)


def test_an_untrained_refiner_gives_the_mask_back(network: MaskRefiner) -> None:
    images = inputs()
    output = network(images)
    assert output.coarse.shape == (1, 1, 16, 24)
    assert [tuple(m.shape[1:]) for m in output.fine] == [(19, 64, 96), (48, 32, 48), (48, 16, 24)]
    torch.testing.assert_close(output.coarse[0, 0, 5, [0, 23]], torch.tensor([-3.0, 3.0]))
    rendered = network.render(output)[0, 0]
    assert torch.equal(rendered > 0, images[0, 3] > 0)


def test_odd_sizes_are_rounded_up(network: MaskRefiner) -> None:
    output = network(inputs((61, 90)))
    assert output.coarse.shape[2:] == (16, 23)


@pytest.mark.parametrize("classes", [1, 4])
def test_a_head_that_starts_from_coarse_gives_the_coarse_logits(classes: int) -> None:
    head = PointHead(in_channels=5, num_classes=classes, architecture=PointArchitecture(hidden=16))
    coarse = torch.randn(2, 50, classes) * 3
    fine = torch.randn(2, 50, 5)
    assert not torch.allclose(head(fine, coarse), coarse, atol=0.5)
    head.start_from_coarse()
    torch.testing.assert_close(head(fine, coarse), coarse, atol=0.2, rtol=0)
    blind = PointHead(in_channels=5, num_classes=2, architecture=PointArchitecture(coarse_every_layer=False))
    before = blind.classifier.weight.clone()
    blind.start_from_coarse()
    assert torch.equal(blind.classifier.weight, before)


def batch() -> SemanticBatch:
    labels = torch.zeros(1, 64, 96, dtype=torch.long)
    labels[..., 40:] = 1
    labels[:, :4] = 255
    return SemanticBatch(inputs(), labels)


def test_the_loss_is_that_near_the_outlines(network: MaskRefiner) -> None:
    given = batch()
    losses = RefinerObjective(network, RefinerLoss(reach=5, again_every=0, num_points=64 * 96))(given, 1)
    output = network(given.images)
    dense = network.upsampled(output, (64, 96))[0, 0]
    # The truth's outline lies at column 40, the mask's at 48; bands of five pixels at both.
    near = torch.zeros(64, 96, dtype=torch.bool)
    near[:, 35:53] = True
    near[:9] |= torch.tensor([True] * 96) & (torch.arange(96) >= 40)[None]  # ignored pixels are no object
    wanted = near & (given.labels[0] != 255)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        dense[wanted], (given.labels[0] == 1).float()[wanted]
    )
    torch.testing.assert_close(losses.coarse, expected.detach(), atol=1e-5, rtol=1e-5)
    logits = sample_points(network.render(output), regular_grid((64, 96)))
    assert logits.shape == (1, 64 * 96, 1)
    torch.testing.assert_close(losses.total, losses.coarse + losses.points)


def test_points_lie_near_the_outlines_and_follow_the_seed(network: MaskRefiner) -> None:
    objective = RefinerObjective(network, RefinerLoss(reach=5, again_every=0, num_points=200))
    seen = []
    real = network.point_logits
    try:
        network.point_logits = lambda output, points: (seen.append(points), real(output, points))[1]  # type: ignore[method-assign, func-returns-value]
        for seed in (1, 1, 2):
            objective(batch(), seed)
    finally:
        del network.point_logits
    columns = seen[0][0, :, 0] * 96
    rows = seen[0][0, :, 1] * 64
    assert float((((columns > 35) & (columns < 53)) | (rows < 9)).float().mean()) > 0.95
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_every_third_batch_is_fed_its_own_result(network: MaskRefiner) -> None:
    objective = RefinerObjective(network, RefinerLoss(num_points=100))
    seen = []
    handle = network.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    try:
        objective(batch(), 4)
        assert len(seen) == 1
        objective(batch(), 3)
    finally:
        handle.remove()
    assert len(seen) == 3
    again = seen[2]
    assert torch.equal(again[:, :3], seen[1][:, :3])
    assert torch.equal(again[:, 5], seen[1][:, 5])  # what was given
    assert not torch.equal(again[:, 3], seen[1][:, 3])
    assert not again.requires_grad
