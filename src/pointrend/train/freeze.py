"""Parts of a backbone that are not trained."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pointrend.models import Backbone


def freeze_backbone(backbone: Backbone, *, norm: bool, stages: int) -> None:
    """Take parameters of a backbone out of training. Calling `train()` on it afterwards lets its norms learn again.

    Args:
        backbone: as it was built; what is frozen stays so until it is built again.
        norm: batch norms keep their statistics and weights, as when images come one or two at a time.
        stages: so many of the first stages keep all weights: 1 is the stem, 2 also the first stage.

    Raises:
        ValueError: the backbone is none of known stages.
    """
    if norm:
        for module in backbone.modules():
            if isinstance(module, _BatchNorm):
                _freeze(module)
    for part in _stages(backbone.model)[:stages] if stages else ():
        for module in part:
            _freeze(module)


def _freeze(module: nn.Module) -> None:
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def _stages(model: nn.Module) -> list[list[nn.Module]]:
    """The stem, then the stages."""
    children = dict(model.named_children())
    stem = [module for name, module in children.items() if name in ("conv1", "bn1", "conv_stem", "stem")]
    layers = [module for name, module in children.items() if name.startswith("layer")]
    if not layers and "blocks" in children:
        layers = list(children["blocks"].children())
    if not stem or not layers:
        raise ValueError("model.freeze_stages needs a ResNet or an EfficientNet; set it to 0")
    return [stem, *([layer] for layer in layers)]
