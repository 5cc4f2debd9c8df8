"""The optimiser and the learning rate as a function of the iteration."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from pointrend.train.recipe import OptimSettings


def build_optimizer(network: nn.Module, settings: OptimSettings) -> Optimizer:
    """SGD or AdamW, with the backbone's learning rate of its own; AdamW does not decay norms and biases."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = settings.name == "sgd" or parameter.ndim > 1
        groups.setdefault((name.startswith("backbone."), decays), []).append(parameter)
    backbone_lr = settings.lr if settings.backbone_lr is None else settings.backbone_lr
    parameters = [
        {
            "params": members,
            "lr": backbone_lr if in_backbone else settings.lr,
            "initial_lr": backbone_lr if in_backbone else settings.lr,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), members in groups.items()
    ]
    if settings.name == "sgd":
        return torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(parameters, lr=settings.lr)


def lr_factor(iteration: int, total: int, settings: OptimSettings) -> float:
    """What the learning rates are multiplied by: linear warmup, times steps or polynomial decay to `min_lr`."""
    if settings.steps:
        decay: float = settings.gamma ** sum(iteration >= step for step in settings.steps)
    else:
        remaining: float = (1.0 - iteration / total) ** settings.power
        decay = settings.min_lr + (1.0 - settings.min_lr) * remaining
    warmup = min(1.0, (iteration + 1) / (settings.warmup + 1))
    return decay * warmup


def set_lr(optimizer: Optimizer, factor: float) -> float:
    """Apply a factor to every group's own rate; returns the largest rate, for display."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return max(float(group["lr"]) for group in optimizer.param_groups)
