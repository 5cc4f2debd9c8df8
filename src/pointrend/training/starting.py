"""The network that a training starts with: its weights, and what of them is trained."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric

from pointrend.errors import warn
from pointrend.training.compiling import compile_encoder
from pointrend.training.freeze import freeze_backbone, freeze_module
from pointrend.training.initial import load_start_weights
from pointrend.training.precision import depthwise_in_float32, slow_bfloat16
from pointrend.training.prepare import Training, check_sizes
from pointrend.training.recipe import RecipeError
from pointrend.training.sync_norm import synchronise_norms
from pointrend.training.taken_table import taken_table


def starting_network(training: Training, fabric: Fabric, *, resume: bool) -> Any:
    """Return the network to train, with the weights that the recipe starts from unless it is resumed.

    Raises:
        RecipeError: there are no weights to start from, no host to freeze, or the network cannot be compiled.
        DatasetError: the network takes no images of the size of crops.
    """
    recipe, settings = training.recipe, training.recipe.train
    torch.manual_seed(settings.seed)
    network: Any = training.new_network()
    check_sizes(network, recipe)
    if not resume and (taken := load_start_weights(network, training)) and fabric.is_global_zero:
        taken_table(taken, recipe.start.weights)
    freeze_backbone(network.backbone, norm=recipe.start.freeze_norm, stages=recipe.start.freeze_stages)
    if recipe.start.freeze != "nothing":
        layout = getattr(training.spec.architecture, "host", None)
        if recipe.start.freeze == "host" and (layout is None or layout.family is None):
            raise RecipeError("start.freeze is host, but this recipe has no host: --freeze backbone")
        freeze_module(network.backbone)
    if settings.sync_norm and fabric.world_size > 1:
        network = synchronise_norms(network, fabric.device)
    network = network.to(fabric.device)
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if settings.precision == "bf16-mixed" and fabric.device.type == "cpu":
        depthwise_in_float32(network)
        if slow_bfloat16() and fabric.is_global_zero:
            warn("train.precision is bf16-mixed, which this CPU lacks: --set train.precision=32-true is much faster")
    if settings.compile:
        compile_encoder(network, fabric.device)
    return network
