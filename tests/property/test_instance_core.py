"""What holds for any boxes, masks and points of instances: against simple references."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pointrend.core import box_to_image, image_to_box, regular_grid, sample_masks, sample_points
from pointrend.models.mask_head import sample_in_boxes

SIDES = st.integers(1, 13)
SIZES = st.tuples(SIDES, SIDES)
SEEDS = st.integers(0, 2**31)
PADDINGS = st.sampled_from(["zeros", "border"])
examples = settings(max_examples=40)


def uniform(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def some_boxes(seed: int, count: int, size: tuple[int, int], *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Boxes (count, 4) that reach half an image's side beyond its border, as narrow as 1/1000 of it."""
    draws = uniform(seed, count, 2, 2, dtype=dtype) * 2 - 0.5
    scale = torch.tensor([size[1], size[0]], dtype=dtype)
    low = draws.amin(dim=1)
    return torch.cat((low * scale, torch.maximum(draws.amax(dim=1), low + 1e-3) * scale), dim=1)


@given(SIZES, SEEDS, st.integers(0, 5))
@examples
def test_there_and_back(size: tuple[int, int], seed: int, count: int) -> None:
    boxes = some_boxes(seed, count, size, dtype=torch.float64)
    points = uniform(seed + 1, count, 7, 2, dtype=torch.float64)
    there = box_to_image(points, boxes, size)
    torch.testing.assert_close(image_to_box(there, boxes, size), points, atol=1e-9, rtol=0)
    torch.testing.assert_close(box_to_image(image_to_box(points, boxes, size), boxes, size), points, atol=1e-9, rtol=0)


@given(SIZES, SEEDS, st.integers(1, 4), st.integers(1, 4))
@examples
def test_the_affine_map_written_out(size: tuple[int, int], seed: int, count: int, scale: int) -> None:
    """And an image that is larger by an integer, boxes with it, gives the same points."""
    boxes, points = some_boxes(seed, count, size), uniform(seed + 1, count, 3, 2)
    found = box_to_image(points, boxes, size)
    for region in range(count):
        left, top, right, bottom = boxes[region].tolist()
        for index in range(3):
            x, y = points[region, index].tolist()
            expected = [(left + x * (right - left)) / size[1], (top + y * (bottom - top)) / size[0]]
            torch.testing.assert_close(found[region, index], torch.tensor(expected), atol=1e-5, rtol=1e-5)
    larger = box_to_image(points, boxes * scale, (size[0] * scale, size[1] * scale))
    torch.testing.assert_close(larger, found, atol=1e-5, rtol=1e-5)


@given(SIZES, SEEDS, st.integers(1, 5), st.booleans())
@examples
def test_masks_are_sampled_as_if_they_had_been_made(
    size: tuple[int, int], seed: int, count: int, outside: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 4, (count, *size), generator=generator, dtype=torch.int32)
    own = torch.randint(1, 4, (count,), generator=generator, dtype=torch.int32)
    points = uniform(seed + 1, count, 20, 2, dtype=torch.float64)
    if outside:
        points = points * 3 - 1
    masks = (ids == own[:, None, None]).double().unsqueeze(1)
    expected = sample_points(masks, points)[..., 0]
    torch.testing.assert_close(sample_masks(ids, own, points), expected, atol=1e-9, rtol=0)


@given(SIZES, SEEDS, st.integers(1, 4))
@examples
def test_masks_of_a_map_sum_to_one_inside(size: tuple[int, int], seed: int, count: int) -> None:
    """Every place is somebody's, ids 0 to 2 together; within half a pixel of the border less."""
    ids = torch.randint(0, 3, (1, *size), generator=torch.Generator().manual_seed(seed)).expand(count, -1, -1)
    points = uniform(seed + 1, count, 20, 2)
    total = sum(sample_masks(ids, torch.full((count,), own), points) for own in range(3))
    assert isinstance(total, Tensor)
    assert (total <= 1 + 1e-5).all()
    scale = torch.tensor([size[1], size[0]])
    inside = ((points * scale >= 0.5) & (points * scale <= scale - 0.5)).all(dim=2)
    torch.testing.assert_close(total[inside], torch.ones_like(total[inside]), atol=1e-5, rtol=0)


@given(SIZES, SEEDS, st.lists(st.integers(0, 3), min_size=1, max_size=3), PADDINGS)
@examples
def test_boxes_of_a_batch_are_read_each_on_its_own_image(
    size: tuple[int, int], seed: int, counts: list[int], padding: str
) -> None:
    """A loop over regions, a plain `sample_points` each."""
    features = uniform(seed, len(counts), 3, *size)
    image = (size[0] * 4, size[1] * 4)
    boxes = [some_boxes(seed + index, count, image) for index, count in enumerate(counts)]
    points = uniform(seed + 9, sum(counts), 6, 2)
    found = sample_in_boxes(features, boxes, points, image, padding=padding)  # type: ignore[arg-type]
    assert found.shape == (sum(counts), 6, 3)
    region = 0
    for index, of_image in enumerate(boxes):
        for box in of_image:
            places = (box[:2] + points[region] * (box[2:] - box[:2])) / torch.tensor([image[1], image[0]])
            expected = sample_points(features[index : index + 1], places[None], padding=padding)  # type: ignore[arg-type]
            torch.testing.assert_close(found[region], expected[0], atol=1e-4, rtol=1e-4)
            region += 1


@given(SEEDS, PADDINGS)
@settings(max_examples=10)
def test_gradients_of_sampling_in_boxes(seed: int, padding: str) -> None:
    """Of the map and, where the bilinear surface has no kink, of the boxes."""
    features = uniform(seed, 2, 2, 5, 6, dtype=torch.float64).requires_grad_()
    boxes = [some_boxes(seed + 1, count, (20, 24), dtype=torch.float64) for count in (2, 1)]
    points = uniform(seed + 2, 3, 4, 2, dtype=torch.float64)

    def read(features: Tensor) -> Tensor:
        return sample_in_boxes(features, boxes, points, (20, 24), padding=padding)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(read, (features,))


def test_gradients_of_sampling_reach_points_and_boxes() -> None:
    features = uniform(0, 1, 2, 5, 6, dtype=torch.float64)
    boxes = torch.tensor([[1.1, 2.3, 17.7, 15.9]], dtype=torch.float64, requires_grad=True)
    points = (regular_grid((2, 2)).double() + 0.013).requires_grad_()

    def read(boxes: Tensor, points: Tensor) -> Tensor:
        return sample_in_boxes(features, [boxes], points, (20, 24))

    assert torch.autograd.gradcheck(read, (boxes, points))
