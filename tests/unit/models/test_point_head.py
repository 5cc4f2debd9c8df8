"""The point head."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pointrend.models import PointArchitecture, PointHead


def inputs(classes: int = 3, channels: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, channels, generator=generator), torch.randn(2, 6, classes, generator=generator)


def weights(head: PointHead) -> list[tuple[int, ...]]:
    return [tuple(m.weight.shape) for m in head.modules() if isinstance(m, nn.Linear)]


def test_published_shapes() -> None:
    head = PointHead(in_channels=256, num_classes=19)
    assert weights(head) == [(256, 275), (256, 275), (256, 275), (19, 275)]


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_coarse_logits_enter_every_layer_or_only_the_first(depth: int) -> None:
    every = PointHead(in_channels=10, num_classes=3, architecture=PointArchitecture(hidden=8, depth=depth))
    first = PointHead(
        in_channels=10, num_classes=3, architecture=PointArchitecture(hidden=8, depth=depth, coarse_every_layer=False)
    )
    assert weights(every) == [*([(8, 13)] + [(8, 11)] * depth)[:depth], (3, 11 if depth else 13)]
    assert weights(first) == [*([(8, 13)] + [(8, 8)] * depth)[:depth], (3, 8 if depth else 13)]
    fine, coarse = inputs()
    assert every(fine, coarse).shape == first(fine, coarse).shape == (2, 6, 3)


@pytest.mark.parametrize("every", [True, False])
def test_it_is_the_mlp_written_out(every: bool) -> None:
    head = PointHead(
        in_channels=10, num_classes=3, architecture=PointArchitecture(hidden=8, depth=2, coarse_every_layer=every)
    )
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    fine, coarse = inputs()
    expected = torch.zeros(2, 6, 3)
    for image in range(2):
        for point in range(6):
            x = torch.cat((fine[image, point], coarse[image, point]))
            for layer in head.layers:
                x = (layer.weight @ x + layer.bias).clamp(min=0)  # type: ignore[operator]
                if every:
                    x = torch.cat((x, coarse[image, point]))
            expected[image, point] = head.classifier.weight @ x + head.classifier.bias
    torch.testing.assert_close(head(fine, coarse), expected, atol=1e-4, rtol=1e-4)


def test_points_do_not_see_each_other() -> None:
    head = PointHead(in_channels=10, num_classes=3, architecture=PointArchitecture(hidden=8))
    fine, coarse = inputs()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(head(fine[:, order], coarse[:, order]), head(fine, coarse)[:, order])


def test_a_new_head_has_no_opinion() -> None:
    assert PointHead(in_channels=10, num_classes=3)(*inputs()).abs().max() < 0.2


def test_gradients() -> None:
    head = PointHead(in_channels=4, num_classes=2, architecture=PointArchitecture(hidden=5, depth=2)).double()
    fine = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    coarse = torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(head, (fine, coarse))


def test_normalized_fine_features_of_any_scale_give_the_same_answer() -> None:
    head = PointHead(in_channels=10, num_classes=3, architecture=PointArchitecture(hidden=8, normalize=True)).train()
    nn.init.normal_(head.classifier.weight)
    fine, coarse = inputs()
    torch.testing.assert_close(head(fine * 100 + 7, coarse), head(fine, coarse), atol=1e-3, rtol=1e-3)
    assert "norm.running_mean" in head.state_dict()
    assert not [key for key in PointHead(in_channels=10, num_classes=3).state_dict() if "norm" in key]
