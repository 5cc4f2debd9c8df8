"""A torch data set over the files of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from pointrend.data.images import read_photo
from pointrend.data.reading import Reading
from pointrend.data.samples import SampleSet

Transform = Callable[[tv_tensors.Image, Any], tuple[Any, Any]]


class SegmentationDataset(Dataset[tuple[Any, Any]]):
    """A map-style data set of images with their train ids or instances.

    Keys are indices or (index, seed). With a seed, the transform draws from torch's global generator seeded with it
    (and restored afterwards), so that an augmented sample depends on index and seed alone. The transform gets the
    image (3, H, W) uint8 and what its annotations' `read` returns.
    """

    def __init__(self, samples: SampleSet, transform: Transform | None = None, *, reading: Reading = Reading()) -> None:
        self.samples = samples
        self.transform = transform
        self.reading = reading

    def __len__(self) -> int:
        return len(self.samples.samples)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Any, Any]:
        """Return a sample; raise `DatasetError` or `ImageError`, naming the file, if it cannot be read."""
        index, seed = key if isinstance(key, tuple) else (key, None)
        image, target = self.load(index)
        if self.transform is None:
            return image, target
        with nullcontext() if seed is None else drawn_from(seed):
            return self.transform(image, target)

    def load(self, index: int) -> tuple[tv_tensors.Image, Any]:
        """Read the image (3, H, W) uint8 and its train ids or instances, untransformed."""
        sample = self.samples.samples[index]
        pixels = read_photo(sample.image, self.reading).pixels
        # A copy, because the array is read-only and a transform may write into it.
        image = torch.tensor(pixels).permute(2, 0, 1)
        return tv_tensors.Image(image), sample.annotations.read((pixels.shape[0], pixels.shape[1]))


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator within the block, and restore it afterwards."""
    # torch.manual_seed would also reseed the GPUs' generators.
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(state)
