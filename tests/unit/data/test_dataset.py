"""Items of a data set: train ids, tv_tensors, seeds and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data_files import write_folder, write_image, write_labels
from torch import Tensor
from torchvision import tv_tensors

from pointrend.data import ImageError, SegmentationDataset, find_samples

CLASSES = ["road", {"name": "unsure", "ignore": True}, "car"]


def noise(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return torch.rand(4), labels


def test_item_before_a_transform(tmp_path: Path) -> None:
    write_folder(tmp_path, "ab", classes=CLASSES)
    write_labels(tmp_path / "labels" / "b.png", [0, 1, 2, 255])
    dataset = SegmentationDataset(find_samples(tmp_path))
    assert len(dataset) == 2
    image, labels = dataset[1]
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(labels, tv_tensors.Mask)
    assert (image.shape, image.dtype) == ((3, 6, 8), torch.uint8)
    assert (labels.shape, labels.dtype) == ((6, 8), torch.uint8)
    assert (image == 1).all()
    assert labels[0].tolist() == [0, 255, 1, 255] * 2


def test_seed_decides_and_leaves_no_trace(tmp_path: Path) -> None:
    dataset = SegmentationDataset(find_samples(write_folder(tmp_path)), noise)
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    first, again, other = (dataset[0, seed][0] for seed in (5, 5, 6))
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # Without a seed it draws from the generator as it stands.
    assert not torch.equal(dataset[0][0], dataset[0][0])


def test_state_is_put_back_after_an_error(tmp_path: Path) -> None:
    def broken(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        torch.rand(3)
        raise RuntimeError

    dataset = SegmentationDataset(find_samples(write_folder(tmp_path)), broken)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        dataset[0, 3]
    assert torch.equal(torch.get_rng_state(), before)


def test_errors_name_the_file(tmp_path: Path) -> None:
    write_folder(tmp_path, "abc")
    write_labels(tmp_path / "labels" / "a.png", [0, 3])
    write_image(tmp_path / "images" / "b.png", size=(6, 9))
    (tmp_path / "images" / "c.png").write_bytes(b"nothing")
    dataset = SegmentationDataset(find_samples(tmp_path))
    with pytest.raises(ValueError, match=r"labels/a\.png: label value 3 is no class; allowed are"):
        dataset[0]
    with pytest.raises(ValueError, match=r"labels/b\.png: labels are"):
        dataset[1]
    with pytest.raises(ImageError, match=r"images/c\.png: not an image"):
        dataset[2]
