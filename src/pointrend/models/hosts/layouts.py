"""Layouts of hosts, completed by a dry run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointrend.errors import PointRendError
from pointrend.models.hosts.families import OWN, build_host, family_named
from pointrend.models.hosts.network import pooled
from pointrend.models.hosts.probe import SIZE, Call, evaluating, probe, probed_map
from pointrend.models.settings import HostLayout, SemanticArchitecture

MULTIPLES = (1, 2, 4, 8, 16, 32, 64)


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
    if layout.coarse_channels or (coarse is not None and _needs_layer(host, call, coarse, num_classes, size)):
        assert coarse is not None or layout.coarse
        path = coarse or layout.coarse
        found = probed_map(host, call, path, fine, size or SIZE)
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
            size=size or SIZE,
        )
        changes = {"coarse": proved.coarse, "geometry": proved.geometry, "stride": proved.stride}
        classes, paths, channels = proved.num_classes, proved.fine, proved.fine_channels
    changes["size"] = size
    multiple = layout.multiple if size is not None else max(layout.multiple, smallest_multiple(host, call))
    changes |= {"fine": paths, "fine_channels": channels, "multiple": multiple, "stem": layout.stem or not paths}
    return layout.model_copy(update=changes), classes


def _needs_layer(
    host: nn.Module, call: Call, coarse: str, num_classes: int | None, size: tuple[int, int] | None
) -> bool:
    """Return whether the map at a path has other channels than classes, so that a new layer must make logits of it."""
    if num_classes is None:
        return False
    return probed_map(host, call, coarse, (), size or SIZE).coarse_channels != num_classes


def smallest_multiple(host: nn.Module, call: Call) -> int:
    """Return the smallest power of two that input sizes must be multiples of.

    Raises:
        PointRendError: the host takes no other sizes than a few.
    """
    for multiple in MULTIPLES:
        size = (multiple * (-(-97 // multiple)), multiple * (-(-131 // multiple)))
        parameter = next(host.parameters(), torch.zeros(()))
        try:
            with torch.no_grad(), evaluating(host):
                call(host, parameter.new_zeros(1, 3, *size))
        except Exception:  # hosts refuse sizes in many ways
            continue
        return multiple
    raise PointRendError(
        f"the host takes no images of sizes that are multiples of {MULTIPLES[-1]}; "
        "give size=(H, W) if it takes one size alone"
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
