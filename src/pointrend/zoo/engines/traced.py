"""Trace a network's encoder for engines."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pointrend.models.encoder import rounded_up

Precision = Literal["float32", "bfloat16", "int8"]
"""An engine's numbers: bfloat16 and int8 are faster where the processor has them, and labels change near boundaries.
int8 needs a calibration on images."""
EXAMPLE = (97, 131)
"""The size of the example input for tracing; odd sizes, so that the padding and resizing branches are traced."""


class ChannelsLastMaps(nn.Module):
    """A network's encoder with channels last in images and maps, as rendering reads them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return maps (N, ., ., D) of images (N, H, W, 3)."""
        return tuple(m.permute(0, 2, 3, 1) for m in self.network.maps(images.permute(0, 3, 1, 2)))


def channels_last(images: Tensor) -> Any:
    """Return images (N, 3, H, W) as an array (N, H, W, 3)."""
    return images.permute(0, 2, 3, 1).contiguous().numpy()


def example(network: nn.Module) -> Tensor:
    """Return the input to trace with: of the sizes of `EXAMPLE`, or for a host of the next ones that it takes."""
    channels = getattr(network, "input_channels", 3)
    return torch.zeros(1, *rounded_up(EXAMPLE, getattr(network, "multiple", 1)), channels)


@contextmanager
def tracing(network: nn.Module) -> Iterator[ChannelsLastMaps]:
    """Yield the encoder to trace with `example`, which reaches all branches that tracing would warn of."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield ChannelsLastMaps(network).eval()
