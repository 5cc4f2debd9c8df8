"""The point head for inference: the same numbers as `PointHead`, with less memory moved.

Shapes: N images, P points, C classes, D channels of the fine maps, h w one of these maps.

- Maps are read as rows: channels-last, the D channels of a pixel lie side by side, and a point reads four such rows.
- A layer's input lies in a buffer whose last columns are the coarse logits and a 1 for the bias. The layer before
  writes into its first columns, so nothing is concatenated, copied or added: a layer is one matrix product.
- Points are taken in portions whose hidden layers stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointrend.core.grids import weighted_rows
from pointrend.core.points import Padding
from pointrend.models.point_head import PointHead

PORTION = 1024
"""Points that pass the layers together."""


class RowMap(NamedTuple):
    """A map (1, D, h, w) as rows."""

    rows: Tensor
    """(h * w, D), contiguous."""
    size: tuple[int, int]
    """(h, w)."""


def row_map(features: Tensor) -> RowMap:
    """A map (1, D, h, w) in float32; free of charge where it is channels-last."""
    _, channels, height, width = features.shape
    rows = features[0].permute(1, 2, 0).reshape(height * width, channels).float().contiguous()
    return RowMap(rows, (height, width))


def read_rows(maps: RowMap, points: Tensor, padding: Padding) -> Tensor:
    """What `sample_points` gives, (P, D), at points (P, 2)."""
    height, width = maps.size
    at = points * points.new_tensor((width, height)) - 0.5
    if padding == "border":
        at = torch.minimum(at.clamp(min=0), at.new_tensor((width - 1, height - 1)))
    corner = at.floor()
    share = at - corner
    # (P, 2) each: the two columns and rows that a point reads, and how much of each.
    near = corner.new_tensor((0, 1))
    columns, rows = corner[:, :1] + near, corner[:, 1:] + near
    across = torch.stack((1 - share[:, 0], share[:, 0]), dim=1) * ((columns >= 0) & (columns < width))
    down = torch.stack((1 - share[:, 1], share[:, 1]), dim=1) * ((rows >= 0) & (rows < height))
    # Where the weight is 0, any row will do.
    inside_columns, inside_rows = columns.clamp(0, width - 1).long(), rows.clamp(0, height - 1).long()
    places = inside_rows[:, :, None] * width + inside_columns[:, None, :]
    return weighted_rows(maps.rows, places.flatten(1), (down[:, :, None] * across[:, None, :]).flatten(1))


class FastPointHead:
    """`PointHead.forward` without gradients.

    Args:
        head: in evaluation mode; its weights are read now.
    """

    def __init__(self, head: PointHead) -> None:
        self.num_classes = head.classifier.out_features
        layers = [layer for layer in (*head.layers, head.classifier) if isinstance(layer, nn.Linear)]
        self._weights = [
            self._with_bias(layer, sees_coarse=index == 0 or head.coarse_every_layer)
            for index, layer in enumerate(layers)
        ]
        if head.norm is not None:
            self._fold(head.norm)

    def _with_bias(self, layer: nn.Linear, *, sees_coarse: bool) -> Tensor:
        """(inputs + C + 1, outputs): what multiplies a layer's own inputs, the coarse logits and the 1."""
        weight = layer.weight.detach().float().t()
        if not sees_coarse:
            weight = torch.cat((weight, weight.new_zeros((self.num_classes, weight.shape[1]))))
        return torch.cat((weight, layer.bias.detach().float().unsqueeze(0))).contiguous()

    def _fold(self, norm: nn.BatchNorm1d) -> None:
        """The norm of the fine features, put into the first layer."""
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias.detach() - norm.running_mean * scale
        first, fine = self._weights[0].clone(), len(scale)
        first[-1] += shift @ first[:fine]
        first[:fine] *= scale.unsqueeze(1)
        self._weights[0] = first

    def __call__(self, fine: Sequence[Tensor], coarse: Tensor) -> Tensor:
        """fine (P, D) of each map, coarse (P, C) -> logits (P, C)."""
        ones = coarse.new_ones((len(coarse), 1))
        x = torch.cat((*fine, coarse, ones), dim=1)
        for weight in self._weights[:-1]:
            width = weight.shape[1]
            following = x.new_empty((len(x), width + self.num_classes + 1))
            torch.mm(x, weight, out=following[:, :width])
            following[:, :width].relu_()
            following[:, width:-1] = coarse
            following[:, -1:] = ones
            x = following
        return x @ self._weights[-1]


class FastPoints:
    """Logits at points of a batch: a `PointPredictor`.

    Args:
        head: in evaluation mode.
        fine: maps (N, D, h, w).
        coarse: logits (N, C, h, w).
        padding: see `sample_points`.
    """

    def __init__(self, head: PointHead, fine: Sequence[Tensor], coarse: Tensor, *, padding: Padding = "zeros") -> None:
        self._head = FastPointHead(head)
        self._padding: Padding = padding
        self._fine = [[row_map(f[index : index + 1]) for f in fine] for index in range(len(coarse))]
        self._coarse = [row_map(coarse[index : index + 1]) for index in range(len(coarse))]

    def __call__(self, points: Tensor) -> Tensor:
        """Logits (N, P, C) at points (N, P, 2)."""
        return torch.stack([self._of_image(index, own) for index, own in enumerate(points)])

    def _of_image(self, index: int, points: Tensor) -> Tensor:
        parts = []
        for some in torch.split(points, PORTION):
            fine = [read_rows(one, some, self._padding) for one in self._fine[index]]
            parts.append(self._head(fine, read_rows(self._coarse[index], some, self._padding)))
        return torch.cat(parts)
