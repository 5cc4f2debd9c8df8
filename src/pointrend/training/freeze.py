"""Freezing of parts of a backbone."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pointrend.errors import PointRendError
from pointrend.models import Backbone


def freeze_backbone(backbone: Backbone, *, norm: bool, stages: int) -> None:
    """Exclude parameters of a backbone from training. A later `backbone.train()` would let its norms learn again.

    Args:
        backbone: changed in place.
        norm: freeze statistics and weights of all batch norms, which batches of one or two images would spoil.
        stages: the number of first stages to freeze: 1 is the stem, 2 adds the first stage.

    Raises:
        PointRendError: the backbone is neither a ResNet nor an EfficientNet.
    """
    if norm:
        for module in backbone.modules():
            if isinstance(module, _BatchNorm):
                freeze_module(module)
    for part in _stages(backbone.model)[:stages] if stages else ():
        for module in part:
            freeze_module(module)


def freeze_module(module: nn.Module) -> None:
    """Exclude all parameters and statistics of a module from training."""
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def _stages(model: nn.Module) -> list[list[nn.Module]]:
    """Return the modules of the stem, then those of each stage."""
    children = dict(model.named_children())
    stem = [module for name, module in children.items() if name in ("conv1", "bn1", "conv_stem", "stem")]
    layers = [module for name, module in children.items() if name.startswith("layer")]
    if not layers and "blocks" in children:
        layers = list(children["blocks"].children())
    if not stem or not layers:
        raise PointRendError("start.freeze_stages needs a ResNet or an EfficientNet; set it to 0")
    return [stem, *([layer] for layer in layers)]
