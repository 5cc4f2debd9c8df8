"""Layouts of hosts, completed by a dry run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointrend.errors import PointRendError
from pointrend.models.encoder import rounded_up
from pointrend.models.hosts.families import OWN, build_host, family_named
from pointrend.models.hosts.network import pooled
from pointrend.models.hosts.probe import SIZE, Call, auxiliary_heads, evaluating, first_line, probe, probed_map
from pointrend.models.settings import HostLayout, SemanticArchitecture

MULTIPLES = (1, 2, 4, 8, 14, 16, 28, 32, 56, 64)
"""What input sizes of hosts are multiples of: strides, and the patches of vision transformers, 14 pixels in DINOv2."""


def completed(
    layout: HostLayout,
    host: nn.Module,
    call: Call,
    num_classes: int | None,
    *,
    fine: Sequence[str] | None = None,
    coarse: str | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[HostLayout, int]:
    """Return a layout with all that a dry run of the host finds, and the number of classes.

    Args:
        layout: what is known already.
        host: the network.
        call: runs it.
        num_classes: C; None: the channels of its output.
        fine, coarse: see `attach`.
        size: the only (H, W) that the host takes; None: any.

    Raises:
        PointRendError: see `probe`.
    """
    multiple = layout.multiple if size is not None else math.lcm(layout.multiple, smallest_multiple(host, call))
    noise = size or rounded_up(SIZE, multiple)
    if layout.coarse_channels or (coarse is not None and _needs_layer(host, call, coarse, num_classes, noise)):
        assert coarse is not None or layout.coarse
        path = coarse or layout.coarse
        found = probed_map(host, call, path, fine, noise)
        changes: dict[str, object] = {"coarse": path, "coarse_channels": found.coarse_channels, "stride": found.stride}
        if num_classes is None:
            raise PointRendError(f"{path} gives a map that is no logits: give num_classes for the new layer on it")
        classes, paths, channels = num_classes, found.fine, found.fine_channels
    else:

        def seen(network: nn.Module, images: Tensor) -> Tensor:
            return pooled(call(network, images), layout.pool, num_classes)

        proved = probe(
            host,
            call=seen,
            num_classes=num_classes,
            coarse=coarse,
            fine=fine,
            size=noise,
        )
        changes = {"coarse": proved.coarse, "geometry": proved.geometry, "stride": proved.stride}
        classes, paths, channels = proved.num_classes, proved.fine, proved.fine_channels
    changes["size"] = size
    changes |= {"fine": paths, "fine_channels": channels, "multiple": multiple, "stem": layout.stem or not paths}
    found_layout = layout.model_copy(update=changes)
    heads = auxiliary_heads(host, call, found_layout, classes, noise)
    return found_layout.model_copy(update={"auxiliary": tuple(heads)}), classes


def _needs_layer(host: nn.Module, call: Call, coarse: str, num_classes: int | None, size: tuple[int, int]) -> bool:
    """Return whether the map at a path has other channels than classes, so that a new layer must make logits of it."""
    if num_classes is None:
        return False
    return probed_map(host, call, coarse, (), size).coarse_channels != num_classes


def smallest_multiple(host: nn.Module, call: Call) -> int:
    """Return the smallest of `MULTIPLES` that input sizes must be multiples of.

    Raises:
        PointRendError: the host takes no other sizes than a few.
    """
    reason = ""
    for multiple in MULTIPLES:
        size = rounded_up((97, 131), multiple)
        parameter = next(host.parameters(), torch.zeros(()))
        try:
            with torch.no_grad(), evaluating(host):
                call(host, parameter.new_zeros(1, 3, *size))
        except Exception as error:  # hosts refuse sizes in many ways
            reason = first_line(error)
            continue
        return multiple
    raise PointRendError(
        f"the host runs on no image of a size that is a multiple of up to {MULTIPLES[-1]} ({reason}); "
        "give call= if it is called in another way, or size= if it takes one size alone"
    )


def resolved_architecture(architecture: SemanticArchitecture, num_classes: int) -> SemanticArchitecture:
    """Return an architecture whose host's layout is complete: what a recipe leaves open is found by a dry run.

    Raises:
        PointRendError: there is no such host, or nothing can be gained on it.
    """
    layout = architecture.host
    if layout.family is None or layout.fine_channels or layout.stem:
        return architecture
    if layout.family == OWN:
        raise PointRendError("model.host.family: own is for networks that are given to pointrend.attach")
    family, row = layout.family, family_named(layout.family)
    inner = row.coarse.get(layout.name)
    name, arguments = layout.name, layout.arguments
    layout = layout.model_copy(update={"multiple": max(layout.multiple, row.multiple)})
    if inner is not None and not layout.coarse:
        layout = layout.model_copy(update={"coarse": inner, "coarse_channels": 1})
    with torch.random.fork_rng(devices=[]):
        host = build_host(family, name, num_classes, arguments)
    found, _ = completed(
        layout,
        host,
        row.call,
        num_classes,
        fine=layout.fine or None,
        coarse=layout.coarse or None,
    )
    return architecture.model_copy(update={"host": found})
