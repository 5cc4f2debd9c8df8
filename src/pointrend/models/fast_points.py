"""The point head for inference: the same numbers as `PointHead`, with less memory moved.

Shapes: N images, P points, C classes, D channels of the fine maps, h w one of these maps.

- Maps are read as rows: channels-last, the D channels of a pixel lie side by side, and a point reads four such rows.
- The first layer is applied to the pixels of a map that points read, once each, and its products are interpolated.
- A layer's input lies in a buffer whose last columns are the coarse logits and a 1 for the bias. The layer before
  writes into its first columns, so nothing is concatenated, copied or added: a layer is one matrix product.
- Points are taken in portions whose hidden layers stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointrend.core.grids import Rows
from pointrend.core.points import Padding
from pointrend.core.rows import RowMap, bilinear_rows, row_map, weighted_rows
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


class FirstLayer:
    """What the first layer makes of one map of an image, at pixels that points read.

    Interpolation commutes with a linear map: the layer is applied to the pixels, once each, and the products are
    interpolated. Neighbouring points, and those of the next step, read the same pixels.

    Args:
        pixels: the map.
        weight: (D, width), the layer's part for this map.
    """

    def __init__(self, pixels: RowMap, weight: Tensor) -> None:
        self.size = pixels.size

        def multiply(places: Tensor, out: Tensor) -> None:
            for some, into in zip(places.split(PORTION), out.split(PORTION), strict=True):  # type: ignore[no-untyped-call]
                torch.mm(pixels.rows[some], weight, out=into)

        self._known = Rows(
            len(pixels.rows),
            multiply,
            classes=weight.shape[1],
            like=pixels.rows,
            limit=len(pixels.rows),
        )

    def slots(self, indices: Tensor) -> Tensor:
        """The rows of `products` (P, 4) of pixels (P, 4), which are computed where they are not known."""
        return self._known.slots(indices.flatten()).view_as(indices)

    @property
    def products(self) -> Tensor:
        """(pixels that were asked for, width)."""
        return self._known.data


class Fine(NamedTuple):
    """The fine maps of an image, by how the first layer is applied to them."""

    multiplied: list[FirstLayer]
    """Maps of many channels: before points read them."""
    read: list[RowMap]
    """Maps of few channels: after."""
    weight: Tensor
    """(channels of `read`, width)."""


def fine_maps(maps: Sequence[RowMap], weight: Tensor) -> Fine:
    """The maps of an image, and the first layer's part (their channels, width)."""
    width = weight.shape[1]
    parts = torch.split(weight, [m.rows.shape[1] for m in maps])
    # Where a product has more than twice the numbers that a pixel has, reading it costs more than multiplying.
    before = [2 * len(part) >= width for part in parts]
    kept = [part for part, multiplied in zip(parts, before, strict=True) if not multiplied]
    return Fine(
        [FirstLayer(m, part) for m, part, multiplied in zip(maps, parts, before, strict=True) if multiplied],
        [m for m, multiplied in zip(maps, before, strict=True) if not multiplied],
        torch.cat(kept) if kept else weight[:0],
    )


class FastPoints:
    """Logits at points of a batch: a `PointPredictor`.

    Args:
        head: in evaluation mode; its weights are read now.
        fine: maps (N, D, h, w).
        coarse: logits (N, C, h, w).
        padding: see `sample_points`.
    """

    def __init__(self, head: PointHead, fine: Sequence[Tensor], coarse: Tensor, *, padding: Padding = "zeros") -> None:
        first, *others = split_layers(head)
        self._num_classes = head.classifier.out_features
        self._padding: Padding = padding
        self._coarse = [row_map(coarse[index : index + 1]) for index in range(len(coarse))]
        self._fine = [fine_maps([row_map(f[i : i + 1]) for f in fine], first.own) for i in range(len(coarse))]
        # What multiplies a layer's own inputs, the coarse logits and the 1.
        self._first = [torch.cat((f.weight, first.coarse, first.bias.unsqueeze(0))) for f in self._fine]
        self._others = [torch.cat((own, seen, bias.unsqueeze(0))) for own, seen, bias in others]

    def __call__(self, points: Tensor) -> Tensor:
        """Logits (N, P, C) at points (N, P, 2)."""
        return torch.stack([self._of_image(index, own) for index, own in enumerate(points)])

    def _of_image(self, index: int, points: Tensor) -> Tensor:
        coarse, (layers, others, _) = self._coarse[index], self._fine[index]
        sizes = {coarse.size, *(layer.size for layer in layers), *(maps.size for maps in others)}
        places = {size: bilinear_rows(size, points, padding=self._padding) for size in sizes}
        slots = [layer.slots(places[layer.size][0]) for layer in layers]
        rest = _Rest(self._others, points)
        parts = [points.new_zeros((0, self._num_classes), dtype=torch.float32)]
        for start in range(0, len(points), PORTION):
            some = slice(start, start + PORTION)

            def read(maps: RowMap, some: slice = some) -> Tensor:
                indices, weights = places[maps.size]
                return weighted_rows(maps.rows, indices[some], weights[some])

            logits = read(coarse)
            seen = (
                torch.cat((*map(read, others), logits, logits.new_ones((len(logits), 1))), dim=1) @ self._first[index]
            )
            for layer, rows in zip(layers, slots, strict=True):
                seen += weighted_rows(layer.products, rows[some], places[layer.size][1][some])
            parts.append(rest(seen.relu_(), logits) if self._others else seen)
        return torch.cat(parts)


class _Rest:
    """The layers after the first."""

    def __init__(self, weights: Sequence[Tensor], like: Tensor) -> None:
        self._weights = weights
        # A layer reads one of them and writes into the other's first columns; the last column stays 1.
        self._buffers = [like.new_ones((PORTION, len(w)), dtype=torch.float32) for w in list(weights[-1:]) * 2]

    def __call__(self, x: Tensor, coarse: Tensor) -> Tensor:
        """x (P, width) and coarse (P, C) -> logits (P, C)."""
        *hidden, last = self._weights
        width = x.shape[1]
        own, following = (buffer[: len(x)] for buffer in self._buffers)
        own[:, :width] = x
        own[:, width:-1] = coarse
        following[:, width:-1] = coarse
        for weight in hidden:
            torch.mm(own, weight, out=following[:, :width])
            following[:, :width].relu_()
            own, following = following, own
        return own @ last
