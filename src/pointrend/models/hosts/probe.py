"""A dry run of a host, which finds its coarse logits, their geometry, and the maps that points may read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pointrend.errors import PointRendError
from pointrend.models.hosts.capture import Found, checked_paths, described, recorded
from pointrend.models.hosts.geometry import Geometry, upsampled
from pointrend.models.hosts.outputs import AUXILIARY, logits_of, members
from pointrend.models.settings import HostLayout

SIZE = (128, 192)
"""(H, W) of the probe image, rounded up to what the host takes."""
STRIDES = (2, 4, 8)
"""The strides of maps that are fine enough to be worth reading."""
TOLERANCE = 1e-4
"""Of the largest logit: within it, the host's output is reproduced."""

_AUXILIARY_PATH = re.compile(r"(^|\.)aux")

Call = Callable[[nn.Module, Tensor], Any]
"""Runs a host on images (N, 3, H, W)."""


@dataclass(frozen=True)
class Layout:
    """Where a host's coarse logits and fine maps are, and how its grid lies in the image."""

    num_classes: int
    coarse: str
    """The path of the module that gives the coarse logits; "" for the host's output itself."""
    geometry: Geometry
    stride: float
    """Of the coarse logits."""
    fine: tuple[str, ...]
    """Paths of modules whose maps points read, coarsest first; none where a stem is needed."""
    fine_channels: tuple[int, ...]


def probe(
    host: nn.Module,
    *,
    call: Call,
    num_classes: int | None = None,
    coarse: str | None = None,
    fine: Sequence[str] | None = None,
    size: tuple[int, int] = SIZE,
) -> Layout:
    """Run a host on noise, and prove that its output is an upsampling of the coarse logits that were found.

    Args:
        host: is put into evaluation mode and back.
        call: runs it.
        num_classes: C; None: the channels of its output.
        coarse: the path of the module that gives the coarse logits; None finds it.
        fine: paths of modules whose maps points read; None takes the two finest below the coarse stride.
        size: (H, W) of the noise.

    Raises:
        PointRendError: the host does not run on such an image, a path is wrong, no module's logits reproduce the
            output, or they have stride 1, so that nothing can be gained.
    """
    output, maps = _run(host, call, size)
    output = logits_of(output, num_classes)
    classes = output.shape[1]
    if coarse is not None:
        checked_paths(host, [coarse], maps, size)
    found = _coarse(output, maps, classes, coarse)
    stride = size[0] / found.map.shape[2]
    if stride < 2:
        raise PointRendError(
            f"nothing can be gained: the host's logits have stride {stride:g} already"
            f"{f' (module {found.path})' if found.path else ''}; if they are soft nevertheless, give pool=4 to start "
            "from their means, or coarse= a map inside of it to make coarser ones from"
        )
    paths = _default_fine(maps, found, size) if fine is None else checked_paths(host, fine, maps, size)
    by_path = {one.path: one.map for one in maps}
    return Layout(
        num_classes=classes,
        coarse=found.path,
        geometry=_geometry(output, found, maps, size),
        stride=stride,
        fine=tuple(sorted(paths, key=lambda path: by_path[path].shape[2])),
        fine_channels=tuple(by_path[path].shape[1] for path in sorted(paths, key=lambda p: by_path[p].shape[2])),
    )


@dataclass(frozen=True)
class InnerLayout:
    """A map inside of a host that coarse logits are made from, and the maps that points read."""

    coarse_channels: int
    stride: float
    fine: tuple[str, ...]
    fine_channels: tuple[int, ...]


def probed_map(
    host: nn.Module, call: Call, path: str, fine: Sequence[str] | None, size: tuple[int, int] = SIZE
) -> InnerLayout:
    """Run a host on noise, and return what a map inside of it has; arguments as in `probe`."""
    _, maps = _run(host, call, size)
    checked_paths(host, [path], maps, size)
    found = next(one for one in reversed(maps) if one.path == path)
    paths = _default_fine(maps, found, size) if fine is None else checked_paths(host, fine, maps, size)
    by_path = {one.path: one.map for one in maps}
    ordered = tuple(sorted(paths, key=lambda name: by_path[name].shape[2]))
    channels = tuple(by_path[name].shape[1] for name in ordered)
    return InnerLayout(found.map.shape[1], size[0] / found.map.shape[2], ordered, channels)


def auxiliary_heads(
    host: nn.Module, call: Call, layout: HostLayout, num_classes: int, size: tuple[int, int]
) -> list[str]:
    """Return the paths of modules that give further logits of the classes, which are for training alone.

    They are called as such (`aux_classifier` of torchvision, `auxiliary_head` of transformers), or what they give is
    the coarse form of a member of the output that is.

    Args:
        host: runs on noise of `size` (H, W).
        call: runs it.
        layout: of its coarse logits.
        num_classes: C.
    """
    output, maps = _run(host, call, size)
    named = [one.path for one in maps if one.map.shape[1] == num_classes and _AUXILIARY_PATH.search(one.path)]
    heads = [path for path in named if not any(path.startswith(f"{other}.") for other in named)]
    for name, value in members(output):
        if name in AUXILIARY and isinstance(value, Tensor) and value.ndim == 4 and value.shape[1] == num_classes:
            heads.append(_coarse(value, maps, num_classes, None).path)
    return [path for path in dict.fromkeys(heads) if path not in ("", layout.coarse)]


def _run(host: nn.Module, call: Call, size: tuple[int, int]) -> tuple[Any, list[Found]]:
    """Return what the host gives for noise, and the maps of all its modules."""
    with torch.no_grad(), evaluating(host), recorded(host) as maps:
        try:
            return call(host, _noise(host, size)), maps
        except Exception as error:  # hosts fail in many ways
            raise PointRendError(
                f"the host does not run on an image of {size[0]} x {size[1]} pixels ({first_line(error)}); "
                "give call= if it is called in another way, or size= if it takes one size alone"
            ) from error


def _coarse(output: Tensor, maps: Sequence[Found], classes: int, path: str | None) -> Found:
    """Return the coarse logits: those of a module that the output is an upsampling of, else the output itself."""
    if path is not None:
        return next(found for found in reversed(maps) if found.path == path)
    candidates = [
        found
        for found in maps
        if found.map.shape[1] == classes and found.map.shape[2] < output.shape[2] and found.map.shape[0] == len(output)
    ]
    fitting = [found for found in reversed(candidates) if _fitting(output, found.map)]
    return fitting[0] if fitting else Found("", output)


def _fitting(output: Tensor, coarse: Tensor) -> tuple[Geometry, ...]:
    """Return the geometries by which an upsampling of `coarse` is the output."""
    size, largest = (output.shape[2], output.shape[3]), float(output.abs().max())
    kinds: tuple[Geometry, ...] = ("centers", "corners")
    return tuple(k for k in kinds if float((upsampled(coarse, size, k) - output).abs().max()) <= TOLERANCE * largest)


def _geometry(output: Tensor, found: Found, maps: Sequence[Found], size: tuple[int, int]) -> Geometry:
    """Return how the coarse grid lies in the image.

    Raises:
        PointRendError: the host upsamples the given logits in neither way.
    """
    if not found.path:  # the host does not upsample
        return "centers"
    kinds = _fitting(output, found.map)
    if kinds:
        return kinds[0]
    near = [one for one in maps if one.map.shape[1] == output.shape[1] and _fitting(output, one.map)]
    hint = f"; those of {', '.join(one.path for one in near[-3:])} do" if near else ""
    raise PointRendError(
        f"the logits of {found.path} ({described(found.map, size)}) do not reproduce the host's output, neither with "
        f"half-pixel centres nor with aligned corners{hint}"
    )


def _default_fine(maps: Sequence[Found], coarse: Found, size: tuple[int, int]) -> list[str]:
    """Return the paths of the two finest maps below the coarse stride: of each the last one of the outermost modules.

    The parts of the block that begins the next stage still have the stride of the stage before, but lie deeper.
    """
    limit = coarse.map.shape[2]
    shapes: dict[str, set[tuple[int, ...]]] = {}
    order: list[str] = []
    for found in maps:
        if found.path == coarse.path and coarse.path:
            break
        shapes.setdefault(found.path, set()).add(tuple(found.map.shape[1:]))
        order.append(found.path)
    last: dict[int, str] = {}
    for stride in STRIDES:
        grid = (-(-size[0] // stride), -(-size[1] // stride))
        # A module that runs several times, as an activation may, must always give maps of one shape.
        of_stride = [
            path
            for path in order
            if len(shapes[path]) == 1 and next(iter(shapes[path]))[1:] == grid and grid[0] > limit
        ]
        outermost = min((path.count(".") for path in of_stride), default=0)
        if of_stride:
            last[stride] = [path for path in of_stride if path.count(".") == outermost][-1]
    chosen = [last[stride] for stride in sorted(last)][:2]
    # Maps of stride 8 alone are too coarse to draw a boundary with: the stem is finer.
    return chosen if min(last, default=8) < 8 else []


def _noise(host: nn.Module, size: tuple[int, int]) -> Tensor:
    parameter = next(host.parameters(), torch.zeros(()))
    noise = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    return noise.to(parameter.device, parameter.dtype)


@contextmanager
def evaluating(host: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode, and each part back into its mode afterwards."""
    modes = [(module, module.training) for module in host.modules()]
    host.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, or its kind if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
