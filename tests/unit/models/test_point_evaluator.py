"""The fast point head and the fast masks are the plain ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pointrend.core import MASK_SUBDIVISION, sample_points
from pointrend.core.sparse.rows import bilinear_rows, read_rows, row_map, weighted_rows
from pointrend.models import PointArchitecture, fast_masks, point_evaluator
from pointrend.models.fast_masks import FastMasks
from pointrend.models.mask_head import CoarseMaskHead, PointRendMaskHead
from pointrend.models.point_evaluator import FastPoints, FirstLayer, fine_maps
from pointrend.models.point_head import PointHead

SIZE = (80, 100)


def point_head(
    classes: int = 5, *, channels: int = 6, every: bool = True, norm: bool = False, depth: int = 3
) -> PointHead:
    torch.manual_seed(0)
    head = PointHead(
        in_channels=channels,
        num_classes=classes,
        architecture=PointArchitecture(hidden=16, depth=depth, coarse_every_layer=every, normalize=norm),
    ).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    if head.norm is not None:
        head.norm.running_mean.normal_()
        head.norm.running_var.uniform_(0.5, 2)
    return head


@settings(max_examples=60)
@given(
    height=st.integers(1, 7), width=st.integers(1, 7), seed=st.integers(0, 99),
    padding=st.sampled_from(("zeros", "border")), kind=st.sampled_from((torch.float32, torch.float64)),
)  # fmt: skip
def test_rows_are_sample_points(height: int, width: int, seed: int, padding: str, kind: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(1, 4, height, width, generator=generator, dtype=kind)
    points = torch.rand(1, 30, 2, generator=generator, dtype=kind) * 1.6 - 0.3
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.0], [0.5 / width, 0.5 / height]], dtype=kind)
    points = torch.cat((points, corners[None]), dim=1)
    for made in (features, features.contiguous(memory_format=torch.channels_last)):
        read = read_rows(row_map(made), points[0], padding=padding)  # type: ignore[arg-type]
        expected = sample_points(features, points, padding=padding)[0]  # type: ignore[arg-type]
        torch.testing.assert_close(read, expected, atol=1e-5, rtol=1e-5)
    weights = bilinear_rows((height, width), points[0], padding="border")[1]
    torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]))


def test_no_rows() -> None:
    assert weighted_rows(torch.ones(3, 4), torch.zeros(0, 4, dtype=torch.int64), torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("settings", [{}, {"every": False}, {"norm": True}, {"depth": 0}, {"classes": 1}, {"depth": 1}])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@torch.no_grad()
def test_points(settings: dict[str, int], padding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point_evaluator, "PORTION", 7)
    head = point_head(channels=11, **settings)  # type: ignore[arg-type]
    # One with many channels, which is multiplied before it is read, and one with few.
    fine = (torch.randn(2, 9, 10, 12), torch.randn(2, 2, 20, 24))
    coarse = torch.randn(2, settings.get("classes", 5), 10, 12)
    made = FastPoints(head, fine, coarse, padding=padding)  # type: ignore[arg-type]
    for count in (25, 1, 40, 0):  # the later ones read pixels that are known
        points = torch.rand(2, count, 2)
        read = torch.cat([sample_points(f, points, padding=padding) for f in fine], dim=2)  # type: ignore[arg-type]
        expected = head(read, sample_points(coarse, points, padding=padding))  # type: ignore[arg-type]
        torch.testing.assert_close(made(points), expected, atol=1e-4, rtol=1e-4)


def mask_head(classes: int = 5, **settings: object) -> PointRendMaskHead:
    torch.manual_seed(0)
    padding = settings.pop("padding", "zeros")
    p2 = int(settings.get("channels", 6)) - 2  # type: ignore[call-overload]
    coarse = CoarseMaskHead(in_channels=p2, num_classes=classes, channels=4, hidden=8)
    torch.nn.init.normal_(coarse.classifier.weight)
    return PointRendMaskHead(
        coarse_head=coarse,
        point_head=point_head(classes, **settings),
        padding=padding,  # type: ignore[arg-type]
    ).eval()


def some_boxes(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(count, 2, generator=generator) * 80 - 10
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 60), dim=1)
    if count > 1:
        boxes[0] = torch.tensor([-20.0, -20.0, 130.0, 110.0])
        boxes[1, 2:] = boxes[1, :2]  # no area
    return boxes, torch.arange(count) % 5


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize(
    "settings",
    [{}, {"every": False}, {"norm": True}, {"padding": "border"}, {"depth": 1}, {"classes": 1}],
)
@torch.no_grad()
def test_masks(settings: dict[str, object], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Several portions and chunks.
    monkeypatch.setattr(fast_masks, "PORTION", 2000)
    monkeypatch.setattr(fast_masks, "CHUNK_BYTES", 3 * 4 * 112 * 112)
    head = mask_head(channels=12, **settings)  # type: ignore[arg-type]
    fine = (torch.randn(1, 10, 20, 25), torch.randn(1, 2, 40, 50))
    boxes, classes = some_boxes(count)
    expected = head.render(fine, [boxes], classes, SIZE, replace(MASK_SUBDIVISION, num_points=300, steps=2))
    made = FastMasks(head, fine, SIZE).render(boxes, classes, replace(MASK_SUBDIVISION, num_points=300, steps=2))
    assert [m.shape for m in made] == [e.shape for e in expected]
    for one, other in zip(made, expected, strict=True):
        if count:
            # Of two equally uncertain points either may be chosen.
            assert ((one - other).abs() > 1e-3 * other.std()).float().mean() < 0.002


@torch.no_grad()
def test_pixels_are_multiplied_once_and_only_those_that_points_read() -> None:
    maps, weight = row_map(torch.randn(1, 4, 10, 12)), torch.randn(4, 8)
    layer = FirstLayer(maps, weight)
    asked = torch.tensor([[5, 6, 17, 18], [5, 5, 17, 17]])
    slots = layer.slots(asked)
    assert sorted(set(slots.flatten().tolist())) == [0, 1, 2, 3]
    assert torch.allclose(layer.products[slots], maps.rows[asked] @ weight, atol=1e-5)
    more = asked.flip(0) + torch.tensor([[0], [1]])
    slots = layer.slots(more)
    assert int(slots.max()) == 5  # two pixels are new
    assert torch.allclose(layer.products[slots], maps.rows[more] @ weight, atol=1e-5)


def test_maps_of_few_channels_are_read_first() -> None:
    many, few = row_map(torch.randn(1, 8, 3, 3)), row_map(torch.randn(1, 2, 6, 6))
    made = fine_maps([many, few], torch.randn(10, 16))
    assert [layer.size for layer in made.multiplied] == [(3, 3)]
    assert made.read == [few]
    assert made.weight.shape == (2, 16)


@torch.no_grad()
def test_adaptive_boxes_stop_when_the_grid_is_finer_than_the_image() -> None:
    head, fine = mask_head(), (torch.randn(1, 4, 20, 25), torch.randn(1, 2, 40, 50))
    boxes, classes = some_boxes(4)
    masks = FastMasks(head, fine, SIZE)
    whole = masks.render(boxes, classes, replace(MASK_SUBDIVISION, num_points=50))
    made = masks.render(
        boxes, classes, replace(MASK_SUBDIVISION, num_points=50), pixels=torch.tensor([10.0, 30.0, 60.0, 500.0])
    )
    for stage in (0, 1):
        assert torch.equal(made[stage], whole[stage])
    for index, steps in enumerate((0, 1, 2, 3)):
        assert torch.allclose(made[1 + steps][index], whole[1 + steps][index], atol=1e-5)
        if steps < 3:
            upsampled = torch.nn.functional.interpolate(
                made[1 + steps][index : index + 1], scale_factor=2, mode="bilinear", align_corners=False
            )
            assert torch.equal(made[2 + steps][index], upsampled[0])
            assert not torch.allclose(made[2 + steps][index], whole[2 + steps][index])
