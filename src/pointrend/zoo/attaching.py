"""PointRend on networks that are not ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN

from pointrend.core import MASK_SAMPLING, MASK_SUBDIVISION, LossWeights, Sampling, Subdivision
from pointrend.core.pasting import Paste
from pointrend.data.classes import ClassInfo, generate_colors
from pointrend.data.settings import InputSpec
from pointrend.errors import PointRendError, shown
from pointrend.models import MaskArchitecture, PointArchitecture, SemanticArchitecture
from pointrend.models.attach import attach as attach_masks
from pointrend.models.hosts.black_box import BlackBox, as_module, fixed_size
from pointrend.models.hosts.families import OWN, build_host, family_named, plain_call
from pointrend.models.hosts.layouts import completed
from pointrend.models.hosts.network import HostedPointRend
from pointrend.models.hosts.probe import SIZE, Call
from pointrend.models.hosts.with_maps import MOST, WithMaps
from pointrend.models.settings import HostLayout
from pointrend.spec import MultiLabelSpec, SemanticSpec, SemanticTest, num_logits
from pointrend.zoo.model import Model

Maps = Callable[[Tensor], Sequence[Tensor]]
"""Gives fine maps (N, D, h, w) of images (N, 3, H, W)."""
Host = nn.Module | Callable[[Tensor], Any] | str
PUBLISHED_POINT = PointArchitecture()
PUBLISHED_MASK = MaskArchitecture()


@overload
def attach(  # type: ignore[overload-overlap]  # a Mask R-CNN is a module too, and is meant first
    host: MaskRCNN,
    architecture: MaskArchitecture = PUBLISHED_MASK,
    *,
    sampling: Sampling = MASK_SAMPLING,
    weights: LossWeights = ...,
    subdivision: Subdivision = MASK_SUBDIVISION,
    paste: Paste = "area",
) -> MaskRCNN: ...


@overload
def attach(
    host: Host,
    architecture: PointArchitecture = PUBLISHED_POINT,
    *,
    fine: Sequence[str] | Maps | None = None,
    coarse: str | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    call: Call | None = None,
    freeze_host: bool = False,
    probabilities: bool = False,
    multi_label: bool = False,
    stem: bool = False,
    pool: int = 1,
    size: tuple[int, int] | None = None,
    input: InputSpec | None = None,
    test: SemanticTest | None = None,
    name: str | None = None,
) -> Model: ...


def attach(
    host: Any,
    architecture: Any = None,
    *,
    fine: Sequence[str] | Maps | None = None,
    coarse: str | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    call: Call | None = None,
    freeze_host: bool = False,
    probabilities: bool = False,
    multi_label: bool = False,
    stem: bool = False,
    pool: int = 1,
    size: tuple[int, int] | None = None,
    input: InputSpec | None = None,
    test: SemanticTest | None = None,
    name: str | None = None,
    sampling: Sampling = MASK_SAMPLING,
    weights: LossWeights = LossWeights(),
    subdivision: Subdivision = MASK_SUBDIVISION,
    paste: Paste = "area",
) -> Any:
    """Put PointRend on a segmentation network; its point head is new, and needs training.

    Of a network for semantic segmentation a `Model` is made, which trains, predicts, is saved and evaluated as every
    other. A dry run finds the logits before the network's own upsampling and proves that the upsampled ones are its
    output; before the point head is trained, the row `coarse` of an evaluation is the network's own prediction.

    A torchvision Mask R-CNN gets PointRend in place of its mask head, and is returned itself: see
    `pointrend.models.attach.attach` for `architecture`, `sampling`, `weights`, `subdivision` and `paste`.

    Args:
        host: a network that gives logits (N, C, h, w) of images (N, 3, H, W): a module; any function or session of
            ONNX Runtime (black boxes, which are not trained); or a name as "smp.FPN", which is built with new weights.
        architecture: of the point head.
        fine: paths of modules whose maps points read, such as ["backbone.layer1"], or a function that gives maps of
            images (a file of such a model is loaded with `host=WithMaps(host, function)`). None takes the two finest
            below the coarse stride. Where there is none finer than stride 8, points read a small trained stem.
        coarse: the path of the module that gives the coarse logits; None finds it. If its map has other channels than
            there are classes, a new layer makes logits of it.
        num_classes: C; None: the channels of the host's output.
        classes: their names; None numbers them.
        arguments: of a host given by name.
        call: runs the host, `call(host, images)`; None calls it with the images. A file does not hold it: there, give
            a host that takes images.
        freeze_host: train the point head (and the stem) alone; the host runs without gradients, its norms frozen.
        probabilities: the host gives probabilities instead of logits.
        multi_label: classes do not exclude each other: each logit is that of a sigmoid, and a pixel has several classes
            or none. At most 31.
        stem: let points read the stem even where there are fine maps.
        pool: start from the means of the host's logits over squares of so many pixels a side, for hosts, such as black
            boxes, whose logits have stride 1 but are soft.
        size: (H, W), if the host takes images of one size alone; a session of ONNX Runtime says it itself.
        input: how images are normalised; None: ImageNet's mean and standard deviation.
        test: how images are resized and rendered; None: the shortest edge to 512.
        name: of the model.

    Raises:
        PointRendError: the host does not run, gives no logits, cannot be upsampled to its own output, or has logits of
            stride 1, so that nothing can be gained; a path is none of its modules (the nearest are named).
    """
    if isinstance(host, MaskRCNN):
        masks = PUBLISHED_MASK if architecture is None else architecture
        return attach_masks(host, masks, sampling=sampling, weights=weights, subdivision=subdivision, paste=paste)
    point = PUBLISHED_POINT if architecture is None else architecture
    if not isinstance(point, PointArchitecture):
        raise PointRendError(
            f"the architecture of a point head must be a PointArchitecture, got {type(point).__name__}; "
            "MaskArchitecture is for torchvision's MaskRCNN"
        )
    if callable(fine):
        host, fine = _with_maps(host, fine, call, size)
    layout, network, run = _built(host, num_classes, arguments or {}, call)
    layout = layout.model_copy(
        update={
            "frozen": freeze_host or isinstance(network, BlackBox),
            "probabilities": probabilities,
            "multi_label": multi_label,
            "stem": stem,
            "pool": pool,
        }
    )
    inner, size = coarse or layout.coarse or None, size or fixed_size(host)
    found, channels = completed(layout, network, run, num_classes, fine=fine, coarse=inner, size=size)
    names = _names(classes, channels, multi_label=multi_label)
    colors = generate_colors(len(names))
    made = HostedPointRend(network, found, channels, point, run)
    device = next(network.parameters(), torch.zeros(())).device
    spec = (MultiLabelSpec if multi_label else SemanticSpec)(
        name=name or (host if isinstance(host, str) else type(host).__name__),
        num_logits=channels,
        architecture=SemanticArchitecture(backbone=layout.name or type(network).__name__, host=found, point=point),
        classes=tuple(ClassInfo(one, color) for one, color in zip(names, colors, strict=True)),
        input=input or InputSpec(),
        test=(test or SemanticTest()).model_copy(update={"pad_multiple": found.multiple} if test is None else {}),
    )
    return Model(made.to(device), spec)


def _with_maps(host: Any, fine: Maps, call: Call | None, size: tuple[int, int] | None) -> tuple[WithMaps, list[str]]:
    """Return a host with a function's fine maps, and their paths."""
    if not isinstance(host, nn.Module) or call is not None:
        raise PointRendError("a function for fine is for hosts that are modules and take images: give no name or call=")
    parameter = next(host.parameters(), torch.zeros(()))
    with torch.no_grad():
        maps = list(fine(parameter.new_zeros(1, 3, *(size or SIZE))))
    if not 1 <= len(maps) <= MOST or any(not isinstance(m, Tensor) or m.ndim != 4 for m in maps):
        raise PointRendError(
            f"fine must give 1 to {MOST} maps (N, D, h, w), got {shown([type(m).__name__ for m in maps])}"
        )
    return WithMaps(host, fine), [f"maps.{index}" for index in range(len(maps))]


def _built(
    host: Any, num_classes: int | None, arguments: Mapping[str, Any], call: Call | None
) -> tuple[HostLayout, nn.Module, Call]:
    """Return what is known of a host's layout, the host, and what runs it."""
    if isinstance(host, str):
        family, _, name = host.partition(".")
        row = family_named(family)
        if num_classes is None:
            raise PointRendError(f"{host} is built with new weights: give num_classes")
        network = build_host(family, name, num_classes, arguments)
        inner = row.coarse.get(name, "")
        layout = HostLayout(
            family=family,
            name=name,
            arguments=dict(arguments),
            coarse=inner,
            coarse_channels=1 if inner else 0,
            multiple=row.multiple,
        )
        return layout, network, call or row.call
    if arguments:
        raise PointRendError(f"arguments are for hosts given by name, got {shown(dict(arguments))}")
    network = as_module(host)
    return HostLayout(family=OWN), network, call or plain_call


def _names(classes: Sequence[str] | None, channels: int, *, multi_label: bool) -> list[str]:
    """Return the names of the classes of `channels` logits: one logit is the second of two classes."""
    if classes is None and multi_label:
        return [f"class {index}" for index in range(channels)]
    if classes is None:
        return ["background", "foreground"] if channels == 1 else [f"class {index}" for index in range(channels)]
    if num_logits(len(classes)) != channels and len(classes) != channels:
        raise PointRendError(f"{len(classes)} names of classes, but the host gives {channels} logits")
    return list(classes)
