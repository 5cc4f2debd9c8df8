"""Operations and activations of mask heads (paper, table 2), counted on the modules themselves.

The rule: operations are multiply-adds of convolutions and linear layers; activations are the numbers that these layers
give out. Interpolation, activation functions and sorting are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from pointrend.core import MASK_SUBDIVISION, Subdivision
from pointrend.models import InstanceArchitecture
from pointrend.models.mask_head import mask_head

PUBLISHED = InstanceArchitecture()
_COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class Cost:
    """What one mask of one object costs."""

    name: str
    resolution: int
    """The side of the mask, in pixels."""
    operations: int
    """Multiply-adds."""
    activations: int
    """Of the whole head."""
    activations_at_once: int
    """Of the largest part that is computed at a time: a step of subdivision, or the whole head without one."""


def mask_head_costs(
    num_classes: int = 80,
    architecture: InstanceArchitecture = PUBLISHED,
    subdivision: Subdivision = MASK_SUBDIVISION,
) -> list[Cost]:
    """Return the costs of Mask R-CNN's head of four convolutions at 28x28 and at PointRend's size, and of PointRend's.

    Args:
        num_classes: C.
        architecture: of the instance network; the defaults are the published numbers.
        subdivision: of the masks.
    """
    side = subdivision.start << subdivision.steps
    return [*(_convolutional(num_classes, s) for s in (28, side)), _pointrend(num_classes, architecture, subdivision)]


def _convolutional(num_classes: int, side: int) -> Cost:
    predictor = MaskRCNNPredictor(256, 256, num_classes)  # type: ignore[no-untyped-call]
    head = nn.Sequential(MaskRCNNHeads(256, (256,) * 4, 1), predictor)
    operations, activations = counted(head, lambda: head(torch.zeros(1, 256, side // 2, side // 2)))
    return Cost("4x conv", side, operations, activations, activations)


def _pointrend(num_classes: int, architecture: InstanceArchitecture, subdivision: Subdivision) -> Cost:
    channels = architecture.fpn_channels
    head = mask_head(num_classes, channels, architecture.mask)
    coarse = head.coarse_head
    parts = [counted(coarse, lambda: coarse(torch.zeros(1, channels, 2 * coarse.side, 2 * coarse.side)))]
    grids = [subdivision.start << step for step in range(subdivision.steps + 1)]
    for step, grid in enumerate(grids):
        points = grid**2 if step == 0 else min(grid**2, subdivision.num_points)
        fine, at_points = torch.zeros(1, points, channels), torch.zeros(1, points, coarse.num_classes)
        parts.append(counted(head.point_head, lambda f=fine, c=at_points: head.point_head(f, c)))  # type: ignore[misc]
    operations, activations = (sum(part[index] for part in parts) for index in (0, 1))
    return Cost("PointRend", grids[-1], operations, activations, max(part[1] for part in parts))


@torch.no_grad()
def counted(module: nn.Module, run: Callable[[], object]) -> tuple[int, int]:
    """Return the multiply-adds and the activations of a module while `run` calls it."""
    activations = 0

    def add(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal activations
        activations += output.numel()

    hooks = [layer.register_forward_hook(add) for layer in module.modules() if isinstance(layer, _COUNTED)]
    try:
        with FlopCounterMode(display=False) as counter:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return int(counter.get_total_flops()) // 2, activations
