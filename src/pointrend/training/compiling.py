"""Compilation of a network's encoder by `torch.compile`."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from pointrend.models.encoder import encoder_modules
from pointrend.models.hosts.network import HostedPointRend
from pointrend.training.recipe import RecipeError

CPP_COMPILERS = ("g++", "clang++", "c++", "cl")


def compile_encoder(network: nn.Module, device: torch.device) -> None:
    """Let `torch.compile` compile the modules of a network's encoder, each at its first call.

    The network's weights keep their names, and copies of it are not compiled.

    Raises:
        RecipeError: the network is one that PointRend was attached to, or there is no C++ compiler for a CPU.
    """
    if isinstance(network, HostedPointRend):
        raise RecipeError("train.compile: networks that PointRend is attached to are not compiled; set it to false")
    compilers = (os.environ.get("CXX", ""), *CPP_COMPILERS)
    if device.type == "cpu" and not any(shutil.which(name) for name in compilers if name):
        raise RecipeError(
            "train.compile: on a CPU torch.compile needs a C++ compiler, and found none "
            f"({', '.join(CPP_COMPILERS)}); install one, or set it to false"
        )
    for module in encoder_modules(network):
        module.compile()


def not_compiled() -> AbstractContextManager[Any]:
    """Run compiled networks as they are written within the block, as for images of many sizes."""
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return]
