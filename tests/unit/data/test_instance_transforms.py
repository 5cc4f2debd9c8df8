"""The augmentations of instance segmentation: pixels and ids move together."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors

from pointrend.data.batches import InstanceTargets
from pointrend.data.dataset import drawn_from
from pointrend.data.instance_masks import pack
from pointrend.data.samples import InstanceMasks
from pointrend.data.settings import InputSpec, InstanceAugment
from pointrend.data.transforms import RandomTurn, train_transform
from pointrend.data.windows import Window, draw_window, nearest, resample

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


class Picture(NamedTuple):
    """An image with its instances, as a transform gets them."""

    image: tv_tensors.Image
    masks: InstanceMasks


def painted(height: int = 64, width: int = 80, *, block: int = 8) -> Picture:
    """Blocks, each of which is an instance with its id as its colour; every fourth block is nobody's."""
    rows, columns = np.arange(height) // block, np.arange(width) // block
    ids = (rows[:, None] * (columns[-1] + 1) + columns + 1).astype(np.int32)
    ids[ids % 4 == 0] = 0
    own = np.unique(ids[ids > 0])
    masks = InstanceMasks(
        tv_tensors.Mask(torch.from_numpy(ids[None])),
        torch.from_numpy(own),
        torch.zeros(len(own), dtype=torch.int64),
        torch.from_numpy(own % 3).long(),
        torch.zeros(len(own), dtype=torch.bool),
    )
    return Picture(tv_tensors.Image(torch.from_numpy(ids).to(torch.uint8).expand(3, -1, -1).clone()), masks)


def transform_of(**options: object) -> Callable[[tv_tensors.Image, InstanceMasks], tuple[Tensor, InstanceTargets]]:
    input = {key: options.pop(key) for key in ("mean", "std", "channels") if key in options}
    return train_transform(InstanceAugment(**options), InputSpec(**(PLAIN | input)))


def apply(picture: Picture, seed: int = 0, **options: object) -> tuple[Tensor, InstanceTargets]:
    with drawn_from(seed):
        return transform_of(**options)(*picture)


def turned(picture: Picture, which: int) -> Picture:
    turn = RandomTurn()
    return Picture(
        turn.transform(picture.image, {"which": which}),
        picture.masks._replace(ids=turn.transform(picture.masks.ids, {"which": which})),
    )


def resized(picture: Picture, scaled: tuple[int, int], window: Window) -> tuple[np.ndarray, Tensor]:
    """Pixels (H, W, 3) and ids of a window."""
    pixels = resample(picture.image, scaled, window).permute(1, 2, 0).numpy()
    return pixels, nearest(picture.masks.ids, scaled, window)


def inner(ids: np.ndarray) -> np.ndarray:
    """Where the eight neighbours have the same id: there interpolation changes nothing."""
    same = np.zeros(ids.shape, bool)
    centre = ids[1:-1, 1:-1]
    same[1:-1, 1:-1] = True
    for down in range(3):
        for right in range(3):
            same[1:-1, 1:-1] &= ids[down : down + centre.shape[0], right : right + centre.shape[1]] == centre
    return same


def check_together(pixels: Tensor, target: InstanceTargets) -> int:
    """Pixels show the ids, boxes are the masks', each class is the one of its id; gives their number."""
    ids = target.ids[0].numpy()
    assert pixels.shape[1:] == ids.shape
    where = inner(ids)
    shown = pixels[0].numpy()
    assert np.abs(shown - ids)[where].max(initial=0) <= 1  # rounding to whole grey values
    assert sorted(target.instance_ids.tolist()) == sorted(np.unique(ids[ids > 0]).tolist())
    for box, of_class, own in zip(
        target.boxes.tolist(), target.classes.tolist(), target.instance_ids.tolist(), strict=True
    ):
        rows, columns = np.nonzero(ids == own)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert of_class == own % 3
    return len(target.instance_ids)


@given(
    seed=st.integers(0, 2**32 - 1),
    dihedral=st.booleans(),
    crop=st.sampled_from([None, (32, 32), (40, 24), (500, 30), (500, 500)]),
    scale=st.sampled_from([None, (0.5, 2.0), (1.0, 1.0), (0.5, 0.5)]),
)
@settings(max_examples=60)
def test_pixels_and_ids_move_together(
    seed: int, dihedral: bool, crop: tuple[int, int] | None, scale: tuple[float, float] | None
) -> None:
    pixels, target = apply(
        painted(), seed, dihedral=dihedral, crop=crop, scale=scale, shortest=(48, 64, 90), longest=100
    )
    assert pixels.dtype == torch.float32
    assert check_together(pixels, target) > 0


# turns


@pytest.mark.parametrize("which", range(8))
def test_a_turn_written_out(which: int) -> None:
    picture = painted(24, 40)
    found = turned(picture, which)
    height, width = 24, 40
    for row in range(height):
        for column in range(width):
            y, x, h, w = row, column, height, width
            if which >= 4:
                x = w - 1 - x
            for _ in range(which % 4):  # a quarter turn: the right side comes up
                y, x, h, w = w - 1 - x, y, w, h
            assert found.masks.ids[0, y, x] == picture.masks.ids[0, row, column]
            assert (found.image[:, y, x] == picture.image[:, row, column]).all()
    assert found.image.is_contiguous()
    assert found.masks.ids.is_contiguous()
    assert isinstance(found.image, tv_tensors.Image)
    assert isinstance(found.masks.ids, tv_tensors.Mask)


def test_there_are_eight_turns() -> None:
    pictures = [turned(painted(), which) for which in range(8)]
    assert len({(p.image.shape, p.image.numpy().tobytes()) for p in pictures}) == 8
    assert torch.equal(pictures[0].image, painted().image)
    assert torch.equal(pictures[4].image, painted().image.flip(2))


def test_all_eight_turns_are_drawn() -> None:
    found = {apply(painted(), seed, shortest=(64,), dihedral=True)[0].numpy().tobytes() for seed in range(80)}
    assert len(found) == 8


@pytest.mark.parametrize(("flip", "expected"), [(0.0, {False}), (1.0, {True}), (0.5, {False, True})])
def test_flips(flip: float, expected: set[bool]) -> None:
    whole = painted().image.as_subclass(Tensor).float()
    flipped = set()
    for seed in range(20):
        pixels, _ = apply(painted(), seed, shortest=(64,), flip=flip)
        assert torch.equal(pixels, whole) or torch.equal(pixels, whole.flip(2))
        flipped.add(torch.equal(pixels, whole.flip(2)))
    assert flipped == expected


# sizes


@pytest.mark.parametrize(
    ("size", "shortest", "longest", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 480), 800, 1333, (1067, 800)),
        ((400, 1000), 800, 1333, (533, 1333)),
        ((1000, 400), 800, 1333, (1333, 533)),
        ((50, 50), 25, 1333, (25, 25)),
        ((1, 1000), 800, 100, (1, 100)),
    ],
)
def test_the_shortest_edge_unless_the_longest_is_too_long(
    size: tuple[int, int], shortest: int, longest: int, expected: tuple[int, int]
) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    ids = tv_tensors.Mask(torch.zeros(0, *size, dtype=torch.int32))
    empty = InstanceMasks(ids, none.int(), none, none, none.bool())
    picture = Picture(tv_tensors.Image(torch.zeros(3, *size, dtype=torch.uint8)), empty)
    pixels, target = apply(picture, shortest=(shortest,), longest=longest)
    assert tuple(pixels.shape) == (3, *expected)
    assert tuple(target.ids.shape) == (0, *expected)
    assert target.boxes.shape == (0, 4)


def test_lengths_are_drawn_from_those_given() -> None:
    sizes = {apply(painted(), seed, shortest=(32, 48, 64))[0].shape[1] for seed in range(40)}
    assert sizes == {32, 48, 64}


def test_scales_are_drawn_over_their_range() -> None:
    sizes = [apply(painted(), seed, scale=(0.5, 2.0))[0].shape[1] for seed in range(60)]
    assert 32 <= min(sizes) < 40
    assert 108 < max(sizes) <= 128
    assert 20 <= sum(size < 64 for size in sizes) <= 40  # half in the logarithm


@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.integers(0, 999),
)
@settings(max_examples=60)
def test_windows_lie_in_the_image(scaled: tuple[int, int], crop: tuple[int, int], seed: int) -> None:
    with drawn_from(seed):
        top, left, height, width = draw_window(scaled, crop)
    assert (height, width) == (min(scaled[0], crop[0]), min(scaled[1], crop[1]))
    assert 0 <= top <= scaled[0] - height
    assert 0 <= left <= scaled[1] - width


def test_every_window_can_be_drawn() -> None:
    found = set()
    for seed in range(200):
        with drawn_from(seed):
            found.add(draw_window((4, 5), (3, 3)))
    assert found == {(top, left, 3, 3) for top in range(2) for left in range(3)}


@given(seed=st.integers(0, 9999), height=st.integers(20, 90), width=st.integers(20, 90))
@settings(max_examples=30)
def test_a_window_is_a_part_of_the_whole(seed: int, height: int, width: int) -> None:
    picture = painted()
    whole = resized(picture, (height, width), (0, 0, height, width))
    with drawn_from(seed):
        top, left, h, w = window = draw_window((height, width), (16, 20))
    part = resized(picture, (height, width), window)
    assert torch.equal(part[1][0], whole[1][0, top : top + h, left : left + w])
    difference = part[0].astype(int) - whole[0][top : top + h, left : left + w]
    assert np.abs(difference).max() <= 1


def test_ids_are_never_mixed() -> None:
    picture = painted(24, 40, block=3)
    _, found = resized(picture, (41, 97), (0, 0, 41, 97))
    assert set(found.unique().tolist()) <= set(picture.masks.ids.unique().tolist())
    assert found.dtype == torch.int32


def test_objects_outside_of_the_window_are_gone() -> None:
    _, target = apply(painted(), scale=(1.0, 1.0), crop=(8, 8), flip=0.0)
    assert 1 <= len(target.boxes) <= 4
    assert target.ids.shape == (1, 8, 8)


# colours


def test_channels_are_ordered_before_they_are_normalised() -> None:
    picture = painted()
    picture.image[...] = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None]
    options = {"mean": (1.0, 2.0, 3.0), "std": (2.0, 4.0, 8.0), "shortest": (64,)}
    rgb, _ = apply(picture, **options)
    bgr, _ = apply(picture, channels="bgr", **options)
    assert rgb[:, 0, 0].tolist() == [(10 - 1) / 2, (20 - 2) / 4, (30 - 3) / 8]
    assert bgr[:, 0, 0].tolist() == [(30 - 1) / 2, (20 - 2) / 4, (10 - 3) / 8]


def test_colours_are_taken_away() -> None:
    picture = painted()
    picture.image[1] = 200
    always, never = (apply(picture, shortest=(64,), grayscale=value)[0] for value in (1.0, 0.0))
    assert torch.equal(always[0], always[1])
    assert torch.equal(always[0], always[2])
    assert not torch.equal(never[0], never[1])


@given(st.integers(0, 9999))
@settings(max_examples=20)
def test_colours_change_and_ids_do_not(seed: int) -> None:
    one, two = (
        apply(painted(), seed, shortest=(64,), dihedral=True, crop=(40, 40), photometric=photometric)
        for photometric in (True, False)
    )
    assert all(torch.equal(a, b) for a, b in zip(one[1], two[1], strict=True))


def test_a_transform_leaves_its_picture_alone() -> None:
    picture = painted()
    apply(picture, shortest=(64,), dihedral=True, photometric=True)
    assert torch.equal(picture.image, painted().image)
    assert torch.equal(picture.masks.ids, painted().masks.ids)


@pytest.mark.parametrize(("antialias", "expected"), [(True, 127), (False, 255)])
def test_training_resizes_as_the_input_says(antialias: bool, expected: int) -> None:
    """Columns of white and black; a quarter as large, the nearest two pixels of every centre are white."""
    image = torch.zeros(3, 128, 128, dtype=torch.uint8)
    image[:, :, 1::4] = image[:, :, 2::4] = 255
    nothing = pack([], [], [], (128, 128))
    spec = InputSpec(mean=(0.0,) * 3, std=(1.0,) * 3, antialias=antialias)
    found, _ = train_transform(InstanceAugment(scale=(0.25, 0.25)), spec)(tv_tensors.Image(image), nothing)
    assert found.shape == (3, 32, 32)
    assert (found[..., 1:-1] - expected).abs().max() <= 1


def test_transforms_can_be_pickled() -> None:
    """Workers that are spawned get the transform so."""
    transform = transform_of(shortest=(48,), dihedral=True, photometric=True, grayscale=0.5, channels="bgr")
    results = []
    for made in (transform, pickle.loads(pickle.dumps(transform))):
        with drawn_from(5):
            results.append(made(*painted()))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(one, two) for one, two in zip(results[0][1], results[1][1], strict=True))
