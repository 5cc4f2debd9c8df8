"""The targets of coarse masks are those of RoIAlign on each instance's whole mask, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import roi_align

from pointrend.data.batches import InstanceTargets, instance_batch, targets_of
from pointrend.data.instance_masks import pack
from pointrend.data.samples import InstanceMasks
from pointrend.models.mask_losses import Positives
from pointrend.models.mask_targets import bitmask_targets
from pointrend.objectives.instance import coarse_targets

SIDE = 7


def blobs(size: tuple[int, int], count: int, seed: int) -> np.ndarray:
    """Masks (count, h, w) bool: unions of rectangles, which touch the border and overlap each other."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *size), bool)
    for mask in masks:
        for _ in range(3):
            top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
            mask[top : top + rng.integers(1, size[0] + 1), left : left + rng.integers(1, size[1] + 1)] = True
    return masks


def some_boxes(size: tuple[int, int], count: int, seed: int) -> Tensor:
    """Some on whole and half pixels, which makes ties; some in part or wholly outside; some tiny, some of no area."""
    rng = np.random.default_rng(seed)
    height, width = size
    corner = rng.uniform((-width / 2, -height / 2), (width * 1.1, height * 1.1), (count, 2))
    extent = rng.uniform((0.5, 0.5), (width * 1.5, height * 1.5), (count, 2))
    extent[rng.random(count) < 0.2] *= 0.05
    grid = rng.choice([0, 2, SIDE], count)[:, None]
    rounded = np.where(grid == SIDE, (extent // SIDE + 1) * SIDE, np.round(extent * 2) / 2)
    corner, extent = np.where(grid > 0, np.round(corner * 2) / 2, corner), np.where(grid > 0, rounded, extent)
    return torch.from_numpy(np.concatenate((corner, corner + extent), axis=1)).float()


def detectron2s(masks: np.ndarray, matched: Tensor, boxes: Tensor) -> Tensor:
    """A mask for each region, of the whole image: what `BitMasks.crop_and_resize` does."""
    copies = torch.from_numpy(masks).float()[matched][:, None]
    rois = torch.cat((torch.arange(len(boxes))[:, None], boxes), dim=1)
    return (roi_align(copies, rois, SIDE, 1.0, sampling_ratio=0, aligned=True)[:, 0] >= 0.5).float()


def made_targets(masks: np.ndarray) -> InstanceTargets:
    size = (masks.shape[1], masks.shape[2])
    count = len(masks)
    packed: InstanceMasks = pack(list(masks), [0] * count, [False] * count, size)
    assert isinstance(packed.ids, tv_tensors.Mask)
    return targets_of(packed)


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(sizes, sizes, st.integers(0, 2**32 - 1))
@settings(max_examples=120, deadline=None)
def test_both_kinds_of_targets_are_roi_aligns(one: tuple[int, int], two: tuple[int, int], seed: int) -> None:
    """Of two images padded to one size: what lies beyond an image's border is not read."""
    sets = [blobs(one, 3, seed), blobs(two, 2, seed + 1)]
    matched = (torch.tensor([0, 2, 1, 2, 0, 0]), torch.tensor([1, 0, 1, 1, 0]))
    boxes = (some_boxes(one, 6, seed + 2), some_boxes(two, 5, seed + 3))
    expected = torch.cat([detectron2s(*parts) for parts in zip(sets, matched, boxes, strict=True)])
    bitmasks = bitmask_targets([torch.from_numpy(m).byte() for m in sets], matched, boxes).coarse(SIDE)
    assert torch.equal(bitmasks, expected)
    samples = [(torch.zeros(3, *size), made_targets(m)) for size, m in zip((one, two), sets, strict=True)]
    batch = instance_batch(samples)
    positives = Positives(boxes, torch.zeros(11, dtype=torch.int64), matched)
    assert torch.equal(coarse_targets(batch.targets, positives, SIDE, batch.valid), expected)


def test_half_of_a_coarse_pixel_is_the_mask() -> None:
    """Ties: of a box of 28 x 28 each coarse pixel has 4 x 4, and the mask fills half of those in row 3."""
    mask = np.zeros((1, 40, 40), bool)
    mask[:, 6:20, 6:34] = True
    boxes = (torch.tensor([[6.0, 6, 34, 34]]),)
    matched = (torch.tensor([0]),)
    positives = Positives(boxes, torch.zeros(1, dtype=torch.int64), matched)
    found = coarse_targets([made_targets(mask)], positives, SIDE, [(40, 40)])[0]
    assert found[:, 0].tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert torch.equal(found, found[:, :1].expand(7, 7))


@pytest.mark.parametrize("factor", [1.0, 3.0, 5.0, 7.0, 9.0, 9.8, 10.2, 12.0, 30.0])
def test_boxes_too_large_for_the_mask_are_left_out_only_if_nothing_reaches_half(factor: float) -> None:
    """Boxes many times as large as a full mask, which may fill half of the coarse pixel in their middle."""
    masks = np.ones((1, 20, 30), bool)
    extent = torch.tensor([30.0, 20.0]) * factor
    centre = torch.tensor([15.0, 10.0])
    boxes = torch.cat((centre - extent / 2, centre + extent / 2))[None]
    matched = (torch.tensor([0]),)
    found = bitmask_targets([torch.from_numpy(masks)], matched, (boxes,)).coarse(SIDE)
    expected = detectron2s(masks, matched[0], boxes)
    assert torch.equal(found, expected)
    if not 9.8 < factor < 12:
        assert bool(expected.any()) == (factor < 10)


def test_boxes_beyond_all_bounds_have_empty_targets() -> None:
    masks = torch.ones(1, 20, 30)
    boxes = torch.tensor([[-1e6, -1e6, 1e6, 1e6], [0, 0, float("inf"), 5], [float("nan")] * 4, [5, 5, 5, 5]])
    found = bitmask_targets([masks], (torch.zeros(4, dtype=torch.int64),), (boxes,)).coarse(SIDE)
    assert not found.any()
    none = bitmask_targets([masks], (torch.zeros(0, dtype=torch.int64),), (torch.zeros(0, 4),)).coarse(SIDE)
    assert none.shape == (0, SIDE, SIDE)
