"""The optimiser and its learning rate schedule."""

from __future__ import annotations

from torch import nn, optim
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.lr_scheduler import LambdaLR

from pointrend.recipes import OptimSettings

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def build_optimizer(network: nn.Module, settings: OptimSettings) -> optim.Optimizer:
    """Return SGD or AdamW with `backbone_lr` for the backbone and `norm_weight_decay` for norms.

    AdamW does not decay norms and biases.
    """
    in_norms = {id(p) for module in network.modules() if isinstance(module, _NORMS) for p in module.parameters()}
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = settings.weight_decay if settings.name == "sgd" or parameter.ndim > 1 else 0.0
            if id(parameter) in in_norms and settings.norm_weight_decay is not None:
                decay = settings.norm_weight_decay
            groups.setdefault((name.startswith("backbone."), decay), []).append(parameter)
    parameters = []
    for (in_backbone, weight_decay), members in groups.items():
        lr = settings.backbone_lr if in_backbone and settings.backbone_lr is not None else settings.lr
        parameters.append({"params": members, "lr": lr, "initial_lr": lr, "weight_decay": weight_decay})
    if settings.name == "sgd":
        return optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum)
    return optim.AdamW(parameters, lr=settings.lr)


def lr_factor(iteration: int, total: int, settings: OptimSettings) -> float:
    """Return the factor of the learning rates: linear warmup, times steps or polynomial decay to `min_lr`."""
    if settings.steps:
        decay: float = settings.gamma ** sum(iteration >= step for step in settings.steps)
    else:
        remaining: float = max(0.0, 1.0 - iteration / total) ** settings.power
        decay = settings.min_lr + (1.0 - settings.min_lr) * remaining
    warmup = min(1.0, (iteration + 1) / (settings.warmup + 1))
    return decay * warmup


def build_schedule(optimizer: optim.Optimizer, settings: OptimSettings, *, total: int, iteration: int) -> LambdaLR:
    """Return the schedule for `total` iterations, of which `iteration` are done."""
    return LambdaLR(optimizer, lambda done: lr_factor(done, total, settings), last_epoch=iteration - 1)
