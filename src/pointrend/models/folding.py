"""Fold batch norms into the convolutions before them: the same numbers at inference, fewer passes over memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

PROBE = (1, 3, 96, 128)
"""Shape of the probe batch that reveals which batch norm follows which convolution."""


class HasMaps(Protocol):
    """A network whose encoder gives maps: `SemanticPointRend` and `InstancePointRend`."""

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return maps of images (N, 3, H, W)."""


Network = TypeVar("Network", bound=HasMaps)


@torch.no_grad()
def prepared(network: Network) -> Network:
    """Return a copy for prediction: in evaluation mode, channels-last, batch norms folded into convolutions.

    Which norm follows which convolution is seen by running the network once, so it works for any backbone. Nothing is
    folded where the copy would give other numbers: a convolution's output may go elsewhere too, or its weights be of a
    precision in which products do not commute.
    """
    assert isinstance(network, nn.Module)
    plain = copy.deepcopy(network).eval()
    # Convolutions on a CPU are faster channels-last.
    return _folded(plain).to(memory_format=torch.channels_last)


def _folded(network: Any) -> Any:
    parameter = next(network.parameters(), None)
    if parameter is None or parameter.is_meta or not any(isinstance(m, nn.BatchNorm2d) for m in network.modules()):
        return network
    images = torch.randn(PROBE, generator=torch.Generator().manual_seed(0)).to(parameter.device, parameter.dtype)
    with _followers(network) as pairs:
        expected = network.maps(images)
    folded = copy.deepcopy(network)
    for convolution, norm in pairs:
        last = folded.get_submodule(norm)
        folded.set_submodule(convolution, fuse_conv_bn_eval(folded.get_submodule(convolution), last))
        # timm's norms have an activation inside.
        folded.set_submodule(norm, last.act if isinstance(last, BatchNormAct2d) else nn.Identity())
    found = folded.maps(images)
    close = (torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(a.std())) for a, b in zip(expected, found, strict=True))
    return folded if all(close) else network


@contextmanager
def _followers(network: nn.Module) -> Iterator[list[tuple[str, str]]]:
    """Yield names of convolutions and of the norms that got their outputs, filled while the network runs once."""
    pairs: list[tuple[str, str]] = []
    made_by: dict[int, tuple[str, Tensor]] = {}  # the tensors are kept so that no other gets their id
    called: set[str] = set()
    handles = []

    def after(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if name not in called:
                made_by[id(output)] = (name, output)
            called.add(name)

        return hook

    def before(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if name not in called and id(inputs[0]) in made_by:
                pairs.append((made_by[id(inputs[0])][0], name))
            called.add(name)

        return hook

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(after(name)))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(before(name)))
    try:
        yield pairs
    finally:
        for handle in handles:
            handle.remove()
