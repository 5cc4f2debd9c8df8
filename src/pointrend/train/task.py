"""What the training loop needs to know of a kind of segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pointrend.train.recipe import Recipe
from pointrend.zoo.spec import ModelSpec


class Batch(Protocol):
    """A step's images and targets."""

    def to(self, device: torch.device, memory_format: torch.memory_format = ...) -> Batch:
        """The batch on a device."""


class Losses(Protocol):
    """A tuple of scalars, by name; what is neither total nor accuracy is one of the losses that make up the total."""

    @property
    def total(self) -> Tensor:
        """What is minimised."""

    @property
    def accuracy(self) -> Tensor:
        """The share of points that are predicted rightly."""

    def _asdict(self) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Scores:
    """What an evaluation while training found."""

    main: float
    """By which the best model is kept; higher is better."""
    values: Mapping[str, float]
    """Percent, by row and metric: "coarse/miou"."""
    lines: tuple[str, ...]
    """For the terminal."""


class Task(Protocol):
    """A network to train, its data, its loss and its score."""

    @property
    def recipe(self) -> Recipe:
        """All settings."""

    @property
    def spec(self) -> ModelSpec:
        """What the model files say of themselves."""

    @property
    def num_images(self) -> tuple[int, int]:
        """To train on, and to evaluate on."""

    @property
    def evaluates(self) -> bool:
        """Whether there is something to evaluate on."""

    @property
    def repeats(self) -> np.ndarray | None:
        """(images,) how often each is seen in an epoch, on average; None for once each."""

    @property
    def collate(self) -> Callable[[list[Any]], Batch]:
        """Makes a batch of the dataset's items."""

    def build(self) -> Any:
        """The network with new weights; its `backbone` is where ImageNet's go."""

    def freeze(self, network: nn.Module) -> None:
        """Take what is not to be trained out of it."""

    def dataset(self) -> Dataset[Any]:
        """Items by (index, seed)."""

    def objective(self, network: nn.Module) -> nn.Module:
        """Gives `Losses` of a batch and a seed."""

    def evaluate(self, network: nn.Module, device: torch.device) -> Scores:
        """Score a network, which may be changed."""
