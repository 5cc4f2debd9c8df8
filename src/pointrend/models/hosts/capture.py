"""The maps that modules of a host give while it runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pointrend.errors import PointRendError, shown


@dataclass(frozen=True)
class Found:
    """A map (N, C, h, w) that a module of a host gave."""

    path: str
    """Of the module, as in `named_modules`."""
    map: Tensor


@contextmanager
def captured(host: nn.Module, paths: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that is filled with the maps of the modules at some paths while the host runs within the block.

    Of a module that runs several times the last map is kept. A module that returns several has the first that is a map.
    """
    found: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if (value := first_map(output)) is not None:
                found[path] = value

        return hook

    handles = [host.get_submodule(path).register_forward_hook(keep(path)) for path in paths]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded(host: nn.Module) -> Iterator[list[Found]]:
    """Yield a list that is filled with the maps of all modules, in the order in which they were computed."""
    found: list[Found] = []

    def keep(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if (value := first_map(output)) is not None:
                found.append(Found(path, value))

        return hook

    handles = [module.register_forward_hook(keep(path)) for path, module in host.named_modules() if path]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def first_map(output: Any) -> Tensor | None:
    """Return the first map (N, C, h, w) in a module's output, or None."""
    if isinstance(output, Tensor):
        return output if output.ndim == 4 else None
    values = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    return next((value for value in values if isinstance(value, Tensor) and value.ndim == 4), None)


def checked_paths(host: nn.Module, paths: Iterable[str], maps: list[Found], size: tuple[int, int]) -> list[str]:
    """Return the paths after checking that each names a module that gives a map.

    Raises:
        PointRendError: a path names none; the message has the nearest ones with their channels and strides.
    """
    by_path = {found.path: found.map for found in maps}
    for path in paths:
        if path in by_path:
            continue
        near = difflib.get_close_matches(path, by_path, n=4, cutoff=0.3) or list(by_path)[-4:]
        listed = ", ".join(f"{name} ({described(by_path[name], size)})" for name in near)
        gives = "gives no map (N, C, h, w)" if path in dict(host.named_modules()) else "is no module of the host"
        raise PointRendError(f"{shown(path)} {gives}; the nearest are {listed}")
    return list(paths)


def described(value: Tensor, size: tuple[int, int]) -> str:
    """Return the channels and the stride of a map of an input of `size` (H, W)."""
    return f"{value.shape[1]} channels, stride {size[0] / value.shape[2]:g}"
