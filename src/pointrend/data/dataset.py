"""A torch data set over the files of a split."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from pointrend.data.images import read_image, read_labels
from pointrend.data.layouts import SampleSet
from pointrend.data.seeding import drawn_from

Transform = Callable[[tv_tensors.Image, tv_tensors.Mask], tuple[Tensor, Tensor]]


class SemanticBatch(NamedTuple):
    """Images of one size with their labels."""

    images: Tensor
    """(N, 3, H, W) float32, normalised."""
    labels: Tensor
    """(N, H, W) int64, train ids or `IGNORE`."""

    def to(self, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format) -> SemanticBatch:
        """The batch on a device."""
        return SemanticBatch(self.images.to(device, memory_format=memory_format), self.labels.to(device))


class SemanticDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images with their labels as train ids.

    An item is asked for by its index, or by (index, seed): then the transform draws from torch's global
    generator seeded with `seed`, which is put back afterwards, so that an augmented sample depends on
    nothing else.

    Args:
        samples: from `find_samples`.
        transform: gets the image (3, H, W) uint8 and the labels (H, W) uint8; None returns them as they are.
    """

    def __init__(self, samples: SampleSet, transform: Transform | None = None) -> None:
        self.samples = samples
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples.samples)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Raises ValueError (`ImageError` for unreadable files) with one line that names the file."""
        index, seed = key if isinstance(key, tuple) else (key, None)
        image, labels = self.load(index)
        if self.transform is None:
            return image, labels
        if seed is None:
            return self.transform(image, labels)
        with drawn_from(seed):
            return self.transform(image, labels)

    def load(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """The image (3, H, W) uint8 and its train ids (H, W) uint8, before the transform."""
        sample = self.samples.samples[index]
        pixels, values = read_image(sample.image), read_labels(sample.label)
        if pixels.shape[:2] != values.shape:
            raise ValueError(f"{sample.label}: labels are {values.shape}, the image is {pixels.shape[:2]} (H, W)")
        if not self.samples.valid[values].all():
            wrong = int(values[~self.samples.valid[values]][0])
            raise ValueError(f"{sample.label}: label value {wrong} stands for no class")
        image = torch.tensor(pixels).permute(2, 0, 1)
        return tv_tensors.Image(image), tv_tensors.Mask(torch.from_numpy(self.samples.lookup[values]))
