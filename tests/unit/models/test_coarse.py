"""Semantic FPN's head."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointrend.models import SemanticFPNHead


def pyramid(height: int, width: int, channels: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(-(-height // s), -(-width // s)) for s in (4, 8, 16, 32)]
    return [torch.randn(2, channels, *size, generator=generator) for size in sizes]


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def test_levels_have_one_one_two_and_three_blocks() -> None:
    head = SemanticFPNHead(in_channels=4, channels=8, num_classes=5)
    assert [len(convolutions(level)) for level in head.levels] == [1, 1, 2, 3]
    shapes = [[(c.in_channels, c.out_channels, c.kernel_size) for c in convolutions(level)] for level in head.levels]
    first, more = (4, 8, (3, 3)), (8, 8, (3, 3))
    assert shapes == [[first], [first], [first, more], [first, more, more]]
    upsamplings = [[m for m in level.modules() if isinstance(m, nn.Upsample)] for level in head.levels]
    assert [len(u) for u in upsamplings] == [0, 1, 2, 3]
    assert all(u.scale_factor == 2 and u.mode == "bilinear" and not u.align_corners for us in upsamplings for u in us)
    assert (head.classifier.in_channels, head.classifier.out_channels, head.classifier.kernel_size) == (8, 5, (1, 1))


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (33, 127), (32, 32), (4, 4), (1, 1)])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_logits_have_the_size_of_the_first_level(size: tuple[int, int], norm: object) -> None:
    head = SemanticFPNHead(in_channels=4, channels=32, num_classes=3, norm=norm).eval()  # type: ignore[arg-type]
    assert head(pyramid(*size)).shape == (2, 3, -(-size[0] // 4), -(-size[1] // 4))


@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_it_is_the_formula_written_out(size: tuple[int, int]) -> None:
    head = SemanticFPNHead(in_channels=4, channels=8, num_classes=3).eval()
    levels = pyramid(*size)
    total = torch.zeros(2, 8, *levels[0].shape[2:])
    for number, x in enumerate(levels):
        for convolution in convolutions(head.levels[number]):
            # New batch norms in evaluation divide by the square root of 1 + eps and do nothing else.
            x = torch.relu(F.conv2d(x, convolution.weight, padding=1) / (1 + 1e-5) ** 0.5)
            if number > 0:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total += F.interpolate(x, size=levels[0].shape[2:], mode="bilinear", align_corners=False)
    expected = F.conv2d(total, head.classifier.weight, head.classifier.bias)
    torch.testing.assert_close(head(levels), expected, atol=1e-5, rtol=1e-4)


def norms(head: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [m for m in head.modules() if isinstance(m, kind)]


def test_the_norm_is_a_choice() -> None:
    batch = SemanticFPNHead(in_channels=4, channels=64, num_classes=3)
    group = SemanticFPNHead(in_channels=4, channels=64, num_classes=3, norm="group")
    assert len(norms(batch, nn.BatchNorm2d)) == 7
    assert not norms(batch, nn.GroupNorm)
    assert [n.num_groups for n in norms(group, nn.GroupNorm)] == [32] * 7
    assert not norms(group, nn.BatchNorm2d)


def test_group_norm_keeps_images_of_a_training_batch_apart() -> None:
    head = SemanticFPNHead(in_channels=4, channels=32, num_classes=3, norm="group").train()
    levels = pyramid(64, 64)
    torch.testing.assert_close(head(levels)[1:], head([x[1:] for x in levels]), atol=1e-5, rtol=1e-4)


def test_a_pyramid_of_another_height_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        SemanticFPNHead(in_channels=4, channels=8, num_classes=3)(pyramid(64, 64)[:3])


def test_every_level_counts() -> None:
    head = SemanticFPNHead(in_channels=4, channels=8, num_classes=3).eval()
    levels = [x.requires_grad_() for x in pyramid(65, 97)]
    head(levels).sum().backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in levels)
