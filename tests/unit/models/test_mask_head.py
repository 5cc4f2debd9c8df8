"""The mask side: coarse masks, points in boxes, rendering one class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pointrend.core import MASK_SUBDIVISION, Subdivision, regular_grid, sample_points
from pointrend.models import CoarseMaskHead, PointArchitecture, PointHead, PointRendMaskHead
from pointrend.models import mask_head as module
from pointrend.models.mask_head import CHUNK_BYTES, sample_in_boxes

SIZE = (64, 96)
BOXES = [torch.tensor([[4.0, 6, 40, 50], [50.5, 10.25, 90, 30]]), torch.zeros(0, 4), torch.tensor([[0.0, 0, 96, 64]])]
CLASSES = torch.tensor([2, 0, 1])


def head(num_classes: int = 3, *, channels: int = 5, early: int = 0, **settings: object) -> PointRendMaskHead:
    torch.manual_seed(0)
    made = PointRendMaskHead(
        coarse_head=CoarseMaskHead(in_channels=channels, num_classes=num_classes, channels=6, hidden=12),
        point_head=PointHead(
            in_channels=channels + early, num_classes=num_classes, architecture=PointArchitecture(hidden=8, depth=2)
        ),
        **settings,  # type: ignore[arg-type]
    )
    for layer in (made.coarse_head.classifier, made.point_head.classifier):
        nn.init.normal_(layer.weight)  # opinions, unlike a new head's
        nn.init.normal_(layer.bias)
    return made.eval()


def maps(channels: int = 5, early: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    fine = [torch.randn(3, channels, SIZE[0] // 4, SIZE[1] // 4, generator=generator)]
    return fine + ([torch.randn(3, early, SIZE[0] // 2, SIZE[1] // 2, generator=generator)] if early else [])


# the coarse head


def test_published_shapes() -> None:
    made = CoarseMaskHead(in_channels=256, num_classes=80)
    shapes = {name: tuple(p.shape) for name, p in made.named_parameters() if p.ndim > 1}
    assert shapes == {
        "conv.weight": (256, 256, 2, 2),
        "fc1.weight": (1024, 256 * 49),
        "fc2.weight": (1024, 1024),
        "classifier.weight": (80 * 49, 1024),
    }


@pytest.mark.parametrize(("channels", "reduced"), [(8, True), (6, False), (4, False)])
def test_a_convolution_comes_first_only_where_channels_shrink(channels: int, reduced: bool) -> None:
    made = CoarseMaskHead(in_channels=channels, num_classes=2, channels=6, hidden=10)
    assert (made.reduce is not None) == reduced
    assert made(torch.randn(3, channels, 14, 14)).shape == (3, 2, 7, 7)
    assert made(torch.zeros(0, channels, 14, 14)).shape == (0, 2, 7, 7)


def test_the_coarse_head_written_out() -> None:
    made = CoarseMaskHead(in_channels=3, num_classes=2, channels=4, hidden=5, side=2)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    features = torch.randn(1, 3, 4, 4)
    cells = torch.zeros(4, 2, 2)
    for row in range(2):
        for column in range(2):
            patch = features[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            cells[:, row, column] = ((made.conv.weight * patch).sum(dim=(1, 2, 3)) + made.conv.bias).clamp(min=0)  # type: ignore[operator]
    x = cells.flatten()
    for layer in (made.fc1, made.fc2):
        x = (layer.weight @ x + layer.bias).clamp(min=0)
    expected = (made.classifier.weight @ x + made.classifier.bias).view(1, 2, 2, 2)
    torch.testing.assert_close(made(features), expected, atol=1e-3, rtol=1e-3)


def test_new_heads_have_no_opinion() -> None:
    made = CoarseMaskHead(in_channels=8, num_classes=3)
    assert made(torch.randn(2, 8, 14, 14)).abs().max() < 0.3


# logits of points


@torch.no_grad()
def test_one_classs_logits_are_those_of_all() -> None:
    made, fine = head(), maps()
    coarse = made.coarse(fine[0], BOXES, SIZE)
    points = torch.rand(3, 20, 2)
    found = made.point_logits(fine, coarse, BOXES, CLASSES, points, SIZE)
    features = sample_in_boxes(fine[0], BOXES, points, SIZE)
    every = made.point_head(features, sample_points(coarse, points))
    torch.testing.assert_close(found, every.gather(2, CLASSES[:, None, None].expand(-1, 20, 1)), atol=1e-4, rtol=1e-4)
    assert torch.equal(made.of_class(coarse, CLASSES), coarse[torch.arange(3), CLASSES][:, None])


@torch.no_grad()
def test_class_agnostic_masks_do_not_depend_on_the_class() -> None:
    made, fine = head(num_classes=1), maps()
    one = made.render(fine, BOXES, CLASSES, SIZE, replace(MASK_SUBDIVISION, steps=1))
    other = made.render(fine, BOXES, CLASSES * 1000, SIZE, replace(MASK_SUBDIVISION, steps=1))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@torch.no_grad()
def test_several_maps_are_concatenated() -> None:
    made, fine = head(early=3), maps(early=3)
    points = torch.rand(3, 9, 2)
    coarse = made.coarse(fine[0], BOXES, SIZE)
    found = made.point_logits(fine, coarse, BOXES, CLASSES, points, SIZE)
    features = torch.cat([sample_in_boxes(f, BOXES, points, SIZE) for f in fine], dim=2)
    assert features.shape == (3, 9, 8)
    expected = made.point_head.class_logits(features, sample_points(coarse, points), CLASSES)
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_padding_reaches_every_reading() -> None:
    """With zeros the border of an image fades, with "border" a constant map is constant."""
    outside = [torch.tensor([[-20.0, -20, 20, 20]])]
    fine = [torch.ones(1, 5, 16, 24)]
    classes = torch.zeros(1, dtype=torch.int64)
    inside = [torch.tensor([[30.0, 20, 60, 50]])]
    for padding in ("zeros", "border"):
        made = head(padding=padding)
        one, two = (made.coarse(fine[0], boxes, SIZE) for boxes in (outside, inside))
        assert torch.allclose(one, two, atol=1e-4) == (padding == "border")
        stages = [
            made.render(fine, boxes, classes, SIZE, replace(MASK_SUBDIVISION, steps=1))[-1]
            for boxes in (outside, inside)
        ]
        assert torch.allclose(*stages, atol=1e-4) == (padding == "border")


# rendering


@torch.no_grad()
@pytest.mark.parametrize("early", [0, 3])
def test_with_all_points_it_is_the_point_head_everywhere(early: int) -> None:
    made, fine = head(early=early), maps(early=early)
    stages = made.render(fine, BOXES, CLASSES, SIZE, Subdivision(32 * 32, 3, start=4))
    assert [tuple(stage.shape) for stage in stages] == [(3, 1, side, side) for side in (7, 4, 8, 16, 32)]
    coarse = made.coarse(fine[0], BOXES, SIZE)
    torch.testing.assert_close(stages[0], made.of_class(coarse, CLASSES), atol=1e-5, rtol=1e-4)
    for stage in stages[1:]:
        side = stage.shape[2]
        dense = made.point_logits(fine, coarse, BOXES, CLASSES, regular_grid((side, side), batch=3), SIZE)
        torch.testing.assert_close(stage, dense.transpose(1, 2).view_as(stage), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_published_sides_and_points() -> None:
    stages = head().render(maps(), BOXES, CLASSES, SIZE)
    assert [stage.shape[2] for stage in stages] == [7, 28, 56, 112, 224]
    upsampled = nn.functional.interpolate(stages[-2], scale_factor=2, mode="bilinear")
    assert ((upsampled != stages[-1]).flatten(1).sum(dim=1) <= 784).all()
    assert (upsampled != stages[-1]).any()


@torch.no_grad()
def test_no_steps_leave_the_start_grid() -> None:
    stages = head().render(maps(), BOXES, CLASSES, SIZE, replace(MASK_SUBDIVISION, steps=0, start=5))
    assert [stage.shape[2] for stage in stages] == [7, 5]


@torch.no_grad()
def test_chunks_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    made, fine = head(), maps()
    generator = torch.Generator().manual_seed(2)
    boxes = []
    for count in (7, 0, 4):
        corner = torch.rand(count, 2, generator=generator) * 40
        boxes.append(torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 50 + 2), dim=1))
    classes = torch.randint(0, 3, (11,), generator=generator)
    whole = made.render(fine, boxes, classes, SIZE, replace(MASK_SUBDIVISION, num_points=200, steps=2))
    calls: list[int] = []
    original = PointRendMaskHead.coarse

    def counted(self: PointRendMaskHead, p2: Tensor, boxes: Any, size: Any) -> Tensor:
        calls.append(sum(len(b) for b in boxes))
        return original(self, p2, boxes, size)

    monkeypatch.setattr(PointRendMaskHead, "coarse", counted)
    a_region = 4 * (5 + 3 + 256) * 784
    for limit, expected in ((1, [1] * 11), (3 * a_region, [3, 3, 1, 3, 1])):
        monkeypatch.setattr(module, "CHUNK_BYTES", limit)
        calls.clear()
        chunked = made.render(fine, boxes, classes, SIZE, replace(MASK_SUBDIVISION, num_points=200, steps=2))
        assert calls == expected
        for one, two in zip(whole, chunked, strict=True):
            torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_no_regions_have_no_masks() -> None:
    stages = head().render(maps(), [torch.zeros(0, 4)] * 3, torch.zeros(0, dtype=torch.int64), SIZE)
    assert [tuple(stage.shape) for stage in stages] == [(0, 1, side, side) for side in (7, 28, 56, 112, 224)]
    assert all(stage.dtype == torch.float32 for stage in stages)
    assert head().coarse(maps()[0], [torch.zeros(0, 4)] * 3, SIZE).shape == (0, 3, 7, 7)


@torch.no_grad()
@pytest.mark.parametrize(
    "box", [(10, 10, 10, 10), (0, 0, 0, 64), (95, 63, 96, 64), (-50, -50, 300, 300), (200, 200, 300, 300)]
)
def test_boxes_without_area_and_beyond_the_border_have_finite_masks(box: tuple[float, ...]) -> None:
    boxes = [torch.tensor([box]).float(), torch.zeros(0, 4), torch.zeros(0, 4)]
    for stage in head().render(maps(), boxes, torch.tensor([1]), SIZE):
        assert stage.isfinite().all()


@torch.no_grad()
def test_half_precision_maps_and_autocast_render_in_single() -> None:
    made, fine = head(), maps()
    expected = made.render(fine, BOXES, CLASSES, SIZE, replace(MASK_SUBDIVISION, num_points=50, steps=1))
    with torch.autocast("cpu", torch.bfloat16):
        found = made.render(
            [f.bfloat16() for f in fine], BOXES, CLASSES, SIZE, replace(MASK_SUBDIVISION, num_points=50, steps=1)
        )
    assert all(stage.dtype == torch.float32 for stage in found)
    torch.testing.assert_close(found[1], expected[1], atol=0.2, rtol=0.1)


# memory


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self.bytes = max(self.bytes, leaf.untyped_storage().nbytes())
        return made


@contextmanager
def largest_tensor() -> Iterator[Largest]:
    with Largest() as mode:
        yield mode


@torch.no_grad()
@pytest.mark.parametrize("num_classes", [2, 1203])
def test_memory_does_not_depend_on_the_number_of_classes(num_classes: int) -> None:
    """Sixty regions of 1,203 classes at 224 x 224 would be 14 GB; 784 points of them 226 MB."""
    torch.manual_seed(0)
    made = PointRendMaskHead(
        coarse_head=CoarseMaskHead(in_channels=8, num_classes=num_classes, channels=4, hidden=8),
        point_head=PointHead(
            in_channels=8, num_classes=num_classes, architecture=PointArchitecture(hidden=16, depth=1)
        ),
    ).eval()
    boxes = [torch.tensor([[4.0, 6, 60, 50]]).expand(60, -1)]
    classes = torch.arange(60) % num_classes
    with largest_tensor() as seen:
        made.render([torch.randn(1, 8, 16, 24)], boxes, classes, SIZE)
    assert seen.bytes <= CHUNK_BYTES
    with largest_tensor() as all_classes:
        torch.zeros(60, 1203, 784)
    assert all_classes.bytes > CHUNK_BYTES
