"""Networks whose encoder is replaced by a function, as one of an external engine, and the sizes of their images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor, nn

Maps = Callable[[Tensor], Sequence[Tensor]]
"""Maps images (N, 3, H, W) to maps (N, ., ., .): the same as `maps` of the networks."""

Network = TypeVar("Network", bound=nn.Module)


def with_encoder(network: Network, maps: Maps) -> Network:
    """Return a network that shares all weights but those of the encoder, and gets its maps from a function.

    Args:
        network: has a method `maps` and names the modules behind it in `encoder_parts`.
        maps: takes the place of that method.
    """
    other = copy.copy(network)
    parts = getattr(network, "encoder_parts", ())
    other._modules = {name: module for name, module in network._modules.items() if name not in parts}
    # On the instance a function comes before the class's method of that name.
    other.__dict__["maps"] = maps
    return other


def encoder_modules(network: nn.Module) -> list[nn.Module]:
    """Return the modules that a network names in `encoder_parts`, without those that it does not have."""
    parts = [getattr(network, name) for name in getattr(network, "encoder_parts", ())]
    return [part for part in parts if isinstance(part, nn.Module)]


def rounded_up(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Return the next (H, W) whose sides are multiples of a number."""
    return multiple * -(-size[0] // multiple), multiple * -(-size[1] // multiple)
