"""Points of boxes, masks read at points, and the loss of mask points."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pointrend.core import box_to_image, image_to_box, mask_point_loss, regular_grid, sample_masks, sample_points

BOXES = torch.tensor([[0.0, 0, 10, 20], [3.5, 2.25, 7.5, 4.25], [-4, -2, 40, 30]])


def test_corners_and_centre_of_a_box() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]]).expand(3, -1, -1)
    found = box_to_image(points, BOXES, (20, 10)) * torch.tensor([10, 20])
    expected = [
        [[left, top], [right, bottom], [(left + right) / 2, (top + bottom) / 2]]
        for left, top, right, bottom in BOXES.tolist()
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_the_box_of_the_whole_image_is_the_image() -> None:
    points = torch.rand(1, 50, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(box_to_image(points, torch.tensor([[0.0, 0, 33, 21]]), (21, 33)), points)


def test_cells_of_an_integer_box_are_the_images_pixels() -> None:
    """A 3 x 4 grid in a box of 3 rows and 4 columns reads exactly these pixels."""
    image = torch.arange(8 * 9.0).view(1, 1, 8, 9)
    points = box_to_image(regular_grid((3, 4)), torch.tensor([[2.0, 4, 6, 7]]), (8, 9))
    torch.testing.assert_close(sample_points(image, points)[0, :, 0].view(3, 4), image[0, 0, 4:7, 2:6])


def test_a_box_without_an_area_is_one_place() -> None:
    found = box_to_image(regular_grid((3, 3)), torch.tensor([[4.0, 5, 4, 5]]), (10, 10))
    torch.testing.assert_close(found, torch.tensor([0.4, 0.5]).expand(1, 9, 2))


def test_a_point_has_no_place_in_a_box_without_an_area() -> None:
    assert not image_to_box(torch.full((1, 1, 2), 0.5), torch.tensor([[4.0, 5, 4, 5]]), (10, 10)).isfinite().any()


def test_no_boxes_have_no_points() -> None:
    none = torch.zeros(0, 4)
    assert box_to_image(torch.zeros(0, 5, 2), none, (4, 4)).shape == (0, 5, 2)
    assert sample_masks(
        torch.zeros(0, 4, 4, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), torch.zeros(0, 5, 2)
    ).shape == (0, 5)


@pytest.mark.parametrize(
    ("points", "boxes", "message"),
    [
        (torch.zeros(3, 2), BOXES, r"points must be \(N, P, 2\)"),
        (torch.zeros(2, 5, 2), BOXES, "points are for 2 images"),
        (torch.zeros(3, 5, 2).half(), BOXES, "half precision"),
        (torch.zeros(3, 5, 2), BOXES[:, :3], r"boxes must be \(R, 4\), got \(3, 3\)"),
        (torch.zeros(3, 5, 2), BOXES[0], r"boxes must be \(R, 4\), got \(4,\)"),
    ],
)
def test_wrong_shapes_are_one_line(points: Tensor, boxes: Tensor, message: str) -> None:
    for function in (box_to_image, image_to_box):
        with pytest.raises(ValueError, match=message) as error:
            function(points, boxes, (4, 4))
        assert "\n" not in str(error.value)


def test_half_precision_boxes_do_not_lower_the_points() -> None:
    points = torch.tensor([[[0.3, 0.6]]])
    found = box_to_image(points, torch.tensor([[1024.0, 0, 2048, 2048]]).half(), (2048, 2048))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([[[(1024 + 0.3 * 1024) / 2048, 0.6]]]))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_masks_are_read_half_way_between_pixels(dtype: torch.dtype) -> None:
    ids = torch.tensor([[[5, 5, 7, 0]]], dtype=dtype)
    points = torch.tensor([[[1 / 8, 0.5], [0.5, 0.5], [0.75, 0.5], [0.0, 0.5], [0.0, 0.0], [1.0, 0.5]]])
    five = sample_masks(ids, torch.tensor([5], dtype=dtype), points)
    torch.testing.assert_close(five, torch.tensor([[1.0, 0.5, 0.0, 0.5, 0.25, 0.0]]))
    seven = sample_masks(ids, torch.tensor([7], dtype=dtype), points)
    torch.testing.assert_close(seven, torch.tensor([[0.0, 0.5, 0.5, 0.0, 0.0, 0.0]]))


@pytest.mark.parametrize("place", [1e9, -1e9, 1e30, math.inf, -math.inf, math.nan])
def test_places_far_away_are_nobodys(place: float) -> None:
    """A network that is not trained yet predicts boxes anywhere; targets must not be NaN there."""
    points = torch.tensor([[[place, 0.5], [0.5, place], [place, place]]])
    found = sample_masks(torch.ones(1, 4, 4, dtype=torch.int32), torch.ones(1, dtype=torch.int32), points)
    assert torch.equal(found, torch.zeros(1, 3))


def test_masks_are_never_made() -> None:
    """One map for a hundred thousand regions."""
    ids = torch.ones(1, 64, 64, dtype=torch.int32).expand(100_000, -1, -1)
    found = sample_masks(ids, torch.ones(100_000, dtype=torch.int32), torch.full((100_000, 1, 2), 0.5))
    assert torch.equal(found, torch.ones(100_000, 1))


def test_wrong_maps_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"ids must be \(R, H, W\) and instance_ids \(R,\)"):
        sample_masks(torch.zeros(2, 4, 4, dtype=torch.int32), torch.zeros(3), torch.zeros(2, 1, 2))


# the loss


def test_the_loss_written_out() -> None:
    logits, targets = [[2.0, -1.0], [0.0, 30.0]], [[1.0, 0.25], [0.5, 0.0]]
    each = [
        -t * math.log(1 / (1 + math.exp(-x))) - (1 - t) * (-x - math.log1p(math.exp(-x)))
        for xs, ts in zip(logits, targets, strict=True)
        for x, t in zip(xs, ts, strict=True)
    ]
    found = mask_point_loss(torch.tensor(logits), torch.tensor(targets))
    assert float(found) == pytest.approx(sum(each) / 4, rel=1e-5)


def test_a_target_of_one_half_wants_a_logit_of_zero() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    mask_point_loss(logits, torch.tensor([[0.5, 0.0, 1.0]])).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad * 6, torch.tensor([[0.0, 1.0, -1.0]]))


@pytest.mark.parametrize("shape", [(0, 196), (3, 0)])
def test_no_points_are_no_loss_with_a_gradient(shape: tuple[int, int]) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    loss = mask_point_loss(logits, torch.zeros(shape))
    assert float(loss.detach()) == 0
    loss.backward()
    assert logits.grad is not None


def test_half_precision_is_summed_in_single() -> None:
    """196 x 512 losses of 11 are beyond what float16 can tell."""
    logits, targets = torch.full((512, 196), -11.0), torch.ones(512, 196)
    expected = mask_point_loss(logits, targets)
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16):
            found = mask_point_loss(logits.to(dtype), targets)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)


def test_shapes_of_the_loss_must_agree() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(2, 3, 1\)"):
        mask_point_loss(torch.zeros(2, 3), torch.zeros(2, 3, 1))
