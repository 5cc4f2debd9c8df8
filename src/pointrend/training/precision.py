"""Depthwise convolutions in float32 within a training on a CPU in bfloat16.

In bfloat16 their backward pass takes 3 to 13 times as long as in float32 (PyTorch 2.15 on 2 cores, channels last), and
more than half of the time of a training step of a small network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn


class _Float32Conv2d(nn.Conv2d):
    """A convolution in float32, regardless of autocast, whose output has the input's type."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float()).to(input.dtype)


def slow_bfloat16(flags: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this CPU computes in bfloat16 by steps in software, which takes up to ten times as long.

    Linux on x86 tells what its CPU has; others are taken to have it.
    """
    try:
        text = flags.read_text()
    except OSError:
        return False
    return "flags\t" in text and not {"avx512_bf16", "amx_bf16"} & set(text.split())


def depthwise_in_float32(network: nn.Module) -> None:
    """Make the depthwise convolutions of a network compute in float32 under autocast; weights are not changed."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            kind = type(module)
            # Replace the class, not `forward`, which copies of the network would not share.
            module.__class__ = cast("Any", type(f"Float32{kind.__name__}", (_Float32Conv2d, kind), {}))
