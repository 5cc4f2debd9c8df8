"""Batch norms whose statistics are those of all processes' batches together."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise_norms(network: nn.Module, device: torch.device) -> nn.Module:
    """Make the batch norms of a network see the batches of all processes; names of weights do not change.

    On GPUs they become PyTorch's own modules, which refuse CPUs; there ours is slower and gives the same.
    """
    if device.type == "cuda":
        return cast("nn.Module", convert_sync_batchnorm(network))
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            # Replace the class, not the module, which hosts may hold by other names too.
            kind = type(module)
            module.__class__ = cast("Any", type(f"Sync{kind.__name__}", (_SyncNorm, kind), {}))
    return network


class _SyncNorm(_BatchNorm):
    """A batch norm over the batches of all processes; frozen ones and those in evaluation mode are as they were."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        assert self.momentum is not None
        values = input.float()
        axes = (0, *range(2, values.ndim))
        own = values.new_tensor([values.numel() / values.shape[1]])
        sums = _sum_over_processes(torch.cat((values.sum(axes), own)))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        shape = (1, -1, *(1 for _ in axes[1:]))
        centred = values - mean.view(shape)
        squares = _sum_over_processes(centred.square().sum(axes))
        variance = squares / count
        if self.track_running_stats:
            assert isinstance(self.running_mean, Tensor)
            assert isinstance(self.running_var, Tensor)
            assert self.num_batches_tracked is not None
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
                unbiased = variance * (count / (count - 1).clamp(min=1))
                self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        result = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            result = result * self.weight.view(shape) + self.bias.view(shape)
        result = result.to(input.dtype)
        # timm's batch norms have both within.
        for part in (getattr(self, "drop", None), getattr(self, "act", None)):
            result = result if part is None else part(result)
        return result


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _sum_over_processes(values: Tensor) -> Tensor:
    return cast("Tensor", _Sum.apply(values))


@torch.no_grad()
def average_statistics(network: nn.Module) -> None:
    """Set the running statistics of batch norms to their means over processes, each of which saw its own batches."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            for buffer in (module.running_mean, module.running_var):
                assert buffer is not None
                dist.all_reduce(buffer)
                buffer /= dist.get_world_size()
