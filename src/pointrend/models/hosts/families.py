"""Families of hosts: how a network is built from a name and arguments, one row each.

A model file names a row, a network of it and its arguments; nothing from a file is imported or executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from pointrend.errors import PointRendError, shown
from pointrend.models.hosts.probe import Call

OWN = "own"
"""The family of networks that only their user can build."""


@dataclass(frozen=True)
class Family:
    """One way to build hosts."""

    module: str
    """The package that has them, and how it is installed if it is missing."""
    install: str
    names: Mapping[str, str]
    """The networks, and what builds each: a class or function of `module`."""
    build: Callable[[Any, str, int, Mapping[str, Any]], nn.Module]
    """Builds a network with new weights from the module, its attribute, the number of classes and arguments."""
    multiple: int = 1
    """Input sizes must be multiples of this."""
    coarse: Mapping[str, str] = field(default_factory=dict)
    """Modules that coarse logits are made from by a new layer, for networks whose own have stride 1."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    call: Call = lambda host, images: host(images)


def _torchvision(module: Any, attribute: str, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    build = getattr(module, attribute)
    made: nn.Module = build(weights=None, weights_backbone=None, num_classes=num_classes, **arguments)
    return made


def _smp(module: Any, attribute: str, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    given = {"encoder_weights": None, **arguments}
    made: nn.Module = getattr(module, attribute)(classes=num_classes, **given)
    return made


def _transformers(module: Any, attribute: str, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    config = getattr(module, re.sub(r"For[A-Z]\w+$", "Config", attribute))
    given = {name: _as_json(value) for name, value in arguments.items()}
    if isinstance(backbone := given.pop("backbone_config", None), dict):  # of a type by name, as in their files
        given["backbone_config"] = module.AutoConfig.for_model(**backbone)
    made: nn.Module = getattr(module, attribute)(config(num_labels=num_classes, **given))
    return made


class LinearHead(nn.Module):
    """A backbone of timm with a linear layer on its last map, as vision transformers are probed.

    Args:
        module: timm.
        model: its name of the backbone.
        num_classes: C.
        arguments: of the backbone.
    """

    def __init__(self, module: Any, model: str, num_classes: int, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.features = module.create_model(model, pretrained=False, features_only=True, **arguments)
        self.head = nn.Conv2d(self.features.feature_info.channels()[-1], num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """images (N, 3, H, W) -> logits (N, C, h, w)."""
        logits: Tensor = self.head(self.features(images)[-1])
        return logits


def _timm(module: Any, attribute: str, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    given = dict(arguments)
    model = given.pop("model", None)
    if not isinstance(model, str):
        raise ValueError("the argument model must name a backbone of timm")
    return LinearHead(module, model, num_classes, given)


def _as_json(value: Any) -> Any:
    """Return a value with lists for tuples, as configurations of transformers have them."""
    if isinstance(value, Mapping):
        return {name: _as_json(member) for name, member in value.items()}
    return list(value) if isinstance(value, tuple) else value


_SMP = ("Unet", "UnetPlusPlus", "FPN", "DeepLabV3", "DeepLabV3Plus", "PSPNet", "UPerNet", "Segformer", "DPT")
_TORCHVISION = (
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
    "fcn_resnet50",
    "fcn_resnet101",
    "lraspp_mobilenet_v3_large",
)

FAMILIES: dict[str, Family] = {
    "torchvision": Family(
        module="torchvision.models.segmentation",
        install="torchvision",
        names={name: name for name in _TORCHVISION},
        build=_torchvision,
    ),
    "smp": Family(
        module="segmentation_models_pytorch",
        install="segmentation-models-pytorch",
        names={name: name for name in _SMP},
        build=_smp,
        multiple=32,
        coarse={"Unet": "decoder.blocks.2", "UnetPlusPlus": "decoder.blocks.x_0_2"},
    ),
    "transformers": Family(
        module="transformers",
        install="transformers",
        names={
            "Segformer": "SegformerForSemanticSegmentation",
            "UperNet": "UperNetForSemanticSegmentation",
            "DPT": "DPTForSemanticSegmentation",
            "Beit": "BeitForSemanticSegmentation",
            "MobileNetV2": "MobileNetV2ForSemanticSegmentation",
            "Mask2Former": "Mask2FormerForUniversalSegmentation",
        },
        build=_transformers,
        multiple=32,
    ),
    "timm": Family(module="timm", install="timm", names={"linear": "linear"}, build=_timm),
}


def build_host(family: str, name: str, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a host with new weights; nothing is downloaded.

    Args:
        family: of `FAMILIES`.
        name: of the network in its family.
        num_classes: C.
        arguments: of the family's builder.

    Raises:
        PointRendError: there is no such family or network, its package is missing, or it refuses the arguments.
    """
    row = family_named(family)
    if name not in row.names:
        raise PointRendError(f"{family} has no network {shown(name)}; expected one of {', '.join(row.names)}")
    try:
        module = import_module(row.module)
    except ImportError as error:
        raise PointRendError(f"{family}.{name} needs the package {row.install}: pip install {row.install}") from error
    try:
        return row.build(module, row.names[name], num_classes, arguments)
    except Exception as error:  # packages refuse arguments in many ways
        reason = " ".join(str(error).split())[:200]
        raise PointRendError(f"{family}.{name} cannot be built with {shown(dict(arguments))}: {reason}") from error


def family_named(family: str) -> Family:
    """Return a row of `FAMILIES`; raise `PointRendError` if there is none of this name."""
    if family not in FAMILIES:
        raise PointRendError(f"there is no family {shown(family)} of hosts; expected one of {', '.join(FAMILIES)}")
    return FAMILIES[family]


def plain_call(host: nn.Module, images: Tensor) -> Any:
    """Run a host on images (N, 3, H, W)."""
    return host(images)
