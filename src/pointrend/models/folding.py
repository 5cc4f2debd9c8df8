"""Fold batch norms into the convolutions before them: the same numbers at inference, fewer passes over memory."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pointrend.models.encoder import rounded_up, with_encoder

PROBE = (96, 128)
"""(H, W) of the probe that reveals which batch norm follows which convolution, rounded up to what the network takes."""


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
    precision in which products do not commute. The copy takes and gives float32: of a network in another precision,
    as after `half()`, the encoder alone is computed in that, and not on a CPU unless it is float64.
    """
    assert isinstance(network, nn.Module)
    plain = copy.deepcopy(network).eval()
    if all(p.device.type == "cpu" and p.element_size() < 4 for p in plain.parameters()):
        plain = plain.float()  # convolutions of half precision take a hundred times as long on most CPUs
    # Convolutions on a CPU are faster channels-last.
    return _with_float32_heads(_folded(plain).to(memory_format=torch.channels_last))


def _with_float32_heads(network: Any) -> Any:
    """Return a network that takes and gives float32, if it is of another precision: its encoder alone stays in that.

    Heads take little time, and points and what is sampled at them need float32.
    """
    encoder = getattr(network, "encoder_parts", ())
    if all(parameter.dtype == torch.float32 for parameter in network.parameters()):
        return network
    parts = dict(network.named_children())
    for name, part in parts.items():
        if name not in encoder:
            part.float()
    parameters = (p for name in encoder if name in parts for p in parts[name].parameters())
    dtype = next((p.dtype for p in parameters), torch.float32)
    compute = network.maps

    def maps(images: Tensor) -> list[Tensor]:
        return [found.float() for found in compute(images.to(dtype))]

    return with_encoder(network, maps)


def _folded(network: Any) -> Any:
    parameter = next(network.parameters(), None)
    if parameter is None or parameter.is_meta or not any(isinstance(m, nn.BatchNorm2d) for m in network.modules()):
        return network
    sides = rounded_up(PROBE, getattr(network, "multiple", 1))
    channels = getattr(network, "input_channels", 3)
    images = torch.randn(1, channels, *sides, generator=torch.Generator().manual_seed(0))
    images = images.to(parameter.device, parameter.dtype)
    try:
        with _followers(network) as pairs:
            expected = network.maps(images)
    except Exception:  # hosts refuse images as small as the probe in many ways
        return network
    folded = copy.deepcopy(network)
    for convolution, norm in pairs:
        last = folded.get_submodule(norm)
        folded.set_submodule(convolution, fuse_conv_bn_eval(folded.get_submodule(convolution), last))
        # timm's norms have an activation inside.
        folded.set_submodule(norm, last.act if isinstance(last, BatchNormAct2d) else nn.Identity())
    found = folded.maps(images)
    return folded if all(map(_close, expected, found)) else network


def _close(a: Tensor, b: Tensor) -> bool:
    spread = float(a.std())
    # Weights that are not finite are reported by the rendering.
    return math.isfinite(spread) and torch.allclose(a, b, rtol=1e-3, atol=1e-4 * spread)


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
