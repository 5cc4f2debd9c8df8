"""Targets and batches of instances, and items of an instance data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import tv_tensors

from pointrend.data.batches import InstanceBatch, InstanceTargets, instance_batch, targets_of
from pointrend.data.dataset import SegmentationDataset, drawn_from
from pointrend.data.instance_masks import pack
from pointrend.data.layouts import find_samples
from pointrend.data.samples import InstanceMasks


def masks_of(*layers: list[list[int]], crowd: tuple[int, ...] = ()) -> InstanceMasks:
    """Every id of every layer is an instance of the class that its last digit says."""
    ids = torch.tensor(layers, dtype=torch.int32)
    found = [(layer, int(own)) for layer in range(len(ids)) for own in ids[layer].unique() if own]
    return InstanceMasks(
        ids=tv_tensors.Mask(ids),
        instance_ids=torch.tensor([own for _, own in found], dtype=torch.int32),
        layers=torch.tensor([layer for layer, _ in found], dtype=torch.int64),
        classes=torch.tensor([own % 10 for _, own in found], dtype=torch.int64),
        crowd=torch.tensor([own in crowd for _, own in found], dtype=torch.bool),
    )


def slow_box(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


# targets


def test_boxes_are_the_edges_of_the_outermost_pixels() -> None:
    found = targets_of(masks_of([[0, 11, 11, 0], [0, 0, 11, 0], [23, 0, 0, 0]]))
    assert found.boxes.tolist() == [[1, 0, 3, 2], [0, 2, 1, 3]]
    assert found.boxes.dtype == found.classes.dtype == found.layers.dtype == torch.int64
    assert found.ids.dtype == found.instance_ids.dtype == torch.int32
    assert found.classes.tolist() == [1, 3]
    assert found.instance_ids.tolist() == [11, 23]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 6), st.integers(0, 2**31))
@settings(max_examples=60)
def test_targets_against_masks_that_overlap(height: int, width: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random((height, width)) > rng.random() for _ in range(count)]
    classes = rng.integers(0, 5, count).tolist()
    crowd = (rng.random(count) > 0.7).tolist()
    found = targets_of(pack(masks, classes, crowd, (height, width)))
    expected = [(m, c) for m, c, is_crowd in zip(masks, classes, crowd, strict=True) if m.any() and not is_crowd]
    assert len(found.boxes) == len(expected)
    for index, (mask, of_class) in enumerate(expected):
        made = found.ids[found.layers[index]] == found.instance_ids[index]
        assert np.array_equal(made.numpy(), mask)
        assert found.boxes[index].tolist() == slow_box(mask)
        assert int(found.classes[index]) == of_class


def test_crowds_are_not_trained_on() -> None:
    found = targets_of(masks_of([[11, 11, 22]], crowd=(11,)))
    assert found.instance_ids.tolist() == [22]
    assert int((found.ids == 11).sum()) == 2  # their pixels stay nobody's


def test_instances_without_a_pixel_left_are_dropped() -> None:
    masks = masks_of([[11, 22, 33]])
    cut = masks._replace(ids=tv_tensors.Mask(masks.ids[:, :, 1:2]))
    found = targets_of(cut)
    assert found.instance_ids.tolist() == [22]
    assert found.boxes.tolist() == [[0, 0, 1, 1]]


def test_the_same_id_in_two_layers_is_two_instances() -> None:
    found = targets_of(masks_of([[7, 7, 0]], [[0, 7, 7]]))
    assert found.boxes.tolist() == [[0, 0, 2, 1], [1, 0, 3, 1]]
    assert found.layers.tolist() == [0, 1]


def test_ids_of_16_bits() -> None:
    assert targets_of(masks_of([[65535, 0, 40000]])).instance_ids.tolist() == [40000, 65535]


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_an_image_without_objects(layers: int) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    ids = tv_tensors.Mask(torch.zeros(layers, 4, 5, dtype=torch.int32))
    found = targets_of(InstanceMasks(ids, none.int(), none, none, none.bool()))
    assert found.boxes.shape == (0, 4)
    assert found.ids.shape == (layers, 4, 5)
    assert found.classes.shape == found.instance_ids.shape == found.layers.shape == (0,)


# batches


def sample(height: int, width: int, value: int = 7) -> tuple[torch.Tensor, InstanceTargets]:
    return torch.full((3, height, width), float(value)), targets_of(masks_of([[value] * width] * height))


def test_a_batch_is_padded_at_the_right_and_bottom() -> None:
    found = instance_batch([sample(10, 40), sample(33, 5)], multiple=32)
    assert found.images.shape == (2, 3, 64, 64)
    assert found.valid == ((10, 40), (33, 5))
    for index, (height, width) in enumerate(found.valid):
        image, target = found.images[index], found.targets[index]
        assert target.ids.shape == (1, 64, 64)
        assert (image[:, :height, :width] == 7).all()
        assert (target.ids[0, :height, :width] == 7).all()
        assert float(image.sum()) == 7 * 3 * height * width
        assert int(target.ids.sum()) == 7 * height * width
        assert target.boxes.tolist() == [[0, 0, width, height]]


@pytest.mark.parametrize(("multiple", "expected"), [(1, (33, 40)), (32, (64, 64)), (40, (40, 40))])
def test_multiples(multiple: int, expected: tuple[int, int]) -> None:
    assert tuple(instance_batch([sample(10, 40), sample(33, 5)], multiple=multiple).images.shape[2:]) == expected


def test_empty_and_full_images_in_one_batch() -> None:
    empty = (torch.zeros(3, 4, 4), targets_of(masks_of([[0] * 4] * 4)))
    none = (torch.zeros(3, 4, 4), empty[1]._replace(ids=torch.zeros(0, 4, 4, dtype=torch.int32)))
    found = instance_batch([empty, sample(4, 4), none])
    assert [len(t.boxes) for t in found.targets] == [0, 1, 0]
    assert [tuple(t.ids.shape) for t in found.targets] == [(1, 32, 32), (1, 32, 32), (0, 32, 32)]


def test_a_batch_moves_with_everything_in_it() -> None:
    moved = instance_batch([sample(4, 4)]).to(torch.device("meta"), torch.channels_last)
    assert isinstance(moved, InstanceBatch)
    assert moved.images.is_contiguous(memory_format=torch.channels_last)
    assert {t.device.type for t in (moved.images, *moved.targets[0])} == {"meta"}
    assert moved.valid == ((4, 4),)


# from files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of which the red channel is the id."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for index, (height, width) in enumerate([(20, 30), (17, 9), (8, 8)]):
        ids = np.zeros((height, width), np.uint16)
        if index < 2:
            ids[2:6, 3:8], ids[height - 1, width - 1] = 5, 200
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[..., 0] = ids
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(ids).save(tmp_path / "labels" / f"{index}.png")
    return tmp_path


def to_targets(image: tv_tensors.Image, masks: InstanceMasks) -> tuple[torch.Tensor, InstanceTargets]:
    return torch.zeros(0), targets_of(masks)


def test_pictures_and_their_ids_are_read_together(folder: Path) -> None:
    dataset = SegmentationDataset(find_samples(folder, task="instance"), to_targets)
    assert len(dataset) == 3
    for index in range(3):
        image, masks = dataset.load(index)
        red = image[0].numpy()
        shown = [masks.mask(i) for i in range(len(masks.instance_ids))]
        assert len(shown) == (2 if index < 2 else 0)
        assert [int(red[mask].min()) for mask in shown] == [5, 200][: len(shown)]
        assert all((red[mask] == red[mask][0]).all() for mask in shown)
        assert len(dataset[index, 0][1].boxes) == len(shown)


def test_a_sample_depends_on_its_seed_alone(folder: Path) -> None:
    def noise(image: tv_tensors.Image, masks: InstanceMasks) -> tuple[torch.Tensor, InstanceTargets]:
        return torch.rand(4), targets_of(masks)

    dataset = SegmentationDataset(find_samples(folder, task="instance"), noise)
    first = dataset[0, 11][0]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert torch.equal(dataset[0, 11][0], first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(dataset[0, 12][0], first)


def test_the_generator_is_put_back_after_a_failure() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()

    def fail() -> None:
        with drawn_from(5):
            torch.rand(1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.get_rng_state(), state)
    with drawn_from(2**32 - 1):
        pass


def test_a_broken_picture_is_one_line_with_its_name(folder: Path) -> None:
    (folder / "images" / "1.png").write_bytes(b"nothing")
    dataset = SegmentationDataset(find_samples(folder, task="instance"), to_targets)
    with pytest.raises(ValueError, match=r"1\.png") as error:
        dataset[1, 0]
    assert "\n" not in str(error.value)
