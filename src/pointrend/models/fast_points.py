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

from pointrend.core.points import Padding
from pointrend.core.rows import read_rows, row_map
from pointrend.models.point_head import PointHead

PORTION = 1024
"""Points that pass the layers together."""


class SplitLayer(NamedTuple):
    """A linear layer of the point head, transposed and split by what it multiplies."""

    own: Tensor
    """(inputs, outputs): the layer before, or the fine features."""
    coarse: Tensor
    """(C, outputs): the coarse logits; zeros where the layer does not see them."""
    bias: Tensor
    """(outputs,)."""


def split_layers(head: PointHead) -> list[SplitLayer]:
    """The layers of a point head in evaluation mode, the classifier last; a norm is put into the first."""
    made = []
    for index, layer in enumerate((*head.layers, head.classifier)):
        assert isinstance(layer, nn.Linear)
        weight, bias = layer.weight.detach().float().t(), layer.bias.detach().float()
        classes = head.classifier.out_features
        if index == 0 or head.coarse_every_layer:
            own, coarse = weight[:-classes], weight[-classes:]
        else:
            own, coarse = weight, weight.new_zeros((classes, weight.shape[1]))
        if index == 0 and head.norm is not None:
            own, bias = _with_norm(head.norm, own, bias)
        made.append(SplitLayer(own.contiguous(), coarse.contiguous(), bias))
    return made


def _with_norm(norm: nn.BatchNorm1d, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A layer (inputs, outputs) and its bias, with the norm of its inputs inside."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias.detach() - norm.running_mean * scale
    return weight * scale.unsqueeze(1), bias + shift @ weight


class FastPointHead:
    """`PointHead.forward` without gradients.

    Args:
        head: in evaluation mode; its weights are read now.
    """

    def __init__(self, head: PointHead) -> None:
        self.num_classes = head.classifier.out_features
        # What multiplies a layer's own inputs, the coarse logits and the 1.
        self._weights = [torch.cat((own, coarse, bias.unsqueeze(0))) for own, coarse, bias in split_layers(head)]

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
            fine = [read_rows(one, some, padding=self._padding) for one in self._fine[index]]
            parts.append(self._head(fine, read_rows(self._coarse[index], some, padding=self._padding)))
        return torch.cat(parts)
