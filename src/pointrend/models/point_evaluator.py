"""The point head for inference: the same numbers as `PointHead`, with less memory moved.

Shapes: N images, P points, C classes, D channels of the fine maps, h w one of these maps.

- Maps are read as rows: channels-last, the D channels of a pixel lie side by side, and a point reads four such rows.
- The first layer is applied to the pixels of a map that points read, once each, and its products are interpolated.
- What all layers make of the coarse logits is one matrix product, since none of it depends on the layer before.
- Points are taken in portions whose hidden layers stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pointrend.core.points import Padding
from pointrend.core.sparse.grids import Rows
from pointrend.core.sparse.rows import RowMap, bilinear_rows, row_map, weighted_rows
from pointrend.models.point_head import PointHead

PORTION = 1024
"""Points that pass the layers together."""


class SplitLayer(NamedTuple):
    """A linear layer of the point head, transposed and split by what it multiplies."""

    own: Tensor
    """(inputs, outputs): multiplies the output of the layer before, or the fine features."""
    coarse: Tensor
    """(C, outputs): multiplies the coarse logits; zeros where the layer does not see them."""
    bias: Tensor
    """(outputs,)."""


def split_layers(head: PointHead) -> list[SplitLayer]:
    """Return the layers of a point head in evaluation mode, the classifier last; a norm is put into the first."""
    layers = []
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
        layers.append(SplitLayer(own.contiguous(), coarse.contiguous(), bias))
    return layers


def _with_norm(norm: nn.BatchNorm1d, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return a layer's weight (inputs, outputs) and bias that do what the norm of its inputs and the layer did."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias.detach() - norm.running_mean * scale
    return weight * scale.unsqueeze(1), bias + shift @ weight


class FirstLayer:
    """The first layer's products with one map of an image, at the pixels that points read.

    Interpolation commutes with a linear map: the layer is applied to the pixels, once each, and the products are
    interpolated. Neighbouring points, and those of the next step, read the same pixels.

    Args:
        pixels: the map.
        weight: (D, width), the layer's part for this map.
    """

    def __init__(self, pixels: RowMap, weight: Tensor) -> None:
        self.size = pixels.size

        def multiply(indices: Tensor, out: Tensor) -> None:
            for some, into in zip(indices.split(PORTION), out.split(PORTION), strict=True):  # type: ignore[no-untyped-call]
                torch.mm(pixels.rows[some], weight, out=into)

        self._cache = Rows(
            len(pixels.rows), multiply, classes=weight.shape[1], like=pixels.rows, limit=len(pixels.rows)
        )

    def slots(self, indices: Tensor) -> Tensor:
        """Return the rows of `products` (P, 4) of pixels (P, 4), which are computed where they are not cached."""
        return self._cache.slots(indices.flatten()).view_as(indices)

    @property
    def products(self) -> Tensor:
        """(pixels asked for so far, width)."""
        return self._cache.data


class Fine(NamedTuple):
    """The fine maps of an image, by how the first layer is applied to them."""

    multiplied: list[FirstLayer]
    """Maps of many channels, multiplied before points read them."""
    read: list[RowMap]
    """Maps of few channels, multiplied after points read them."""
    weight: Tensor
    """(channels of `read`, width)."""


def fine_maps(maps: Sequence[RowMap], weight: Tensor) -> Fine:
    """Sort the maps of an image by the first layer's part (their channels, width)."""
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


class PointEvaluator:
    """The layers of a point head over the fine maps of one image.

    Args:
        head: in evaluation mode; its weights are read now.
        fine: maps of the image as rows.
        padding: see `sample_points`.
    """

    def __init__(self, head: PointHead, fine: Sequence[RowMap], *, padding: Padding = "zeros") -> None:
        self.layers = split_layers(head)
        self.padding: Padding = padding
        self._fine = fine_maps(fine, self.layers[0].own)

    def fine_reader(self, points: Tensor) -> Callable[[slice], Tensor | None]:
        """Return a function that gives the first layer's products with the fine features at some points (M, 2).

        The function takes a slice of the points and returns (points of the slice, width), or None without fine maps.
        """
        layers, others, weight = self._fine
        sizes = {maps.size for maps in others} | {layer.size for layer in layers}
        corners = {size: bilinear_rows(size, points, padding=self.padding) for size in sizes}
        slots = [layer.slots(corners[layer.size][0]) for layer in layers]

        def read(some: slice) -> Tensor | None:
            few = [weighted_rows(m.rows, corners[m.size][0][some], corners[m.size][1][some]) for m in others]
            total = torch.cat(few, dim=1) @ weight if few else None
            for layer, rows in zip(layers, slots, strict=True):
                products = weighted_rows(layer.products, rows[some], corners[layer.size][1][some])
                total = products if total is None else total.add_(products)
            return total

        return read

    def last_hidden(self, fine: Tensor, coarse: Sequence[Tensor]) -> Tensor:
        """Return what the classifier sees of the layers before it.

        Args:
            fine: (P, width), from a `fine_reader`; it is overwritten.
            coarse: (P, width) of each hidden layer, its products with the coarse logits and its bias.
        """
        x = fine.add_(coarse[0]).relu_()
        for layer, seen in zip(self.layers[1:-1], coarse[1:], strict=True):
            x = torch.addmm(seen, x, layer.own).relu_()
        return x


class FastPoints:
    """Logits at points of a batch: a `PointPredictor`.

    Args:
        head: in evaluation mode; its weights are read now.
        fine: maps (N, D, h, w).
        coarse: logits (N, C, h, w).
        padding: see `sample_points`.
    """

    def __init__(self, head: PointHead, fine: Sequence[Tensor], coarse: Tensor, *, padding: Padding = "zeros") -> None:
        images = range(len(coarse))
        self._coarse = [row_map(coarse[index : index + 1]) for index in images]
        self._images = [
            PointEvaluator(head, [row_map(f[index : index + 1]) for f in fine], padding=padding) for index in images
        ]
        layers = split_layers(head)
        self._widths = [len(layer.bias) for layer in layers]
        # Multiplies the coarse logits and a 1: the products of all layers, and their biases.
        self._all_coarse = torch.cat(
            [torch.cat((layer.coarse, layer.bias.unsqueeze(0))) for layer in layers], dim=1
        ).contiguous()

    def __call__(self, points: Tensor) -> Tensor:
        """Return logits (N, P, C) at points (N, P, 2)."""
        return torch.stack([self._of_image(index, own) for index, own in enumerate(points)])

    def _of_image(self, index: int, points: Tensor) -> Tensor:
        coarse, evaluator = self._coarse[index], self._images[index]
        corners, weights = bilinear_rows(coarse.size, points, padding=evaluator.padding)
        fine = evaluator.fine_reader(points)
        classifier = evaluator.layers[-1]
        parts = [points.new_zeros((0, self._widths[-1]), dtype=torch.float32)]
        for start in range(0, len(points), PORTION):
            some = slice(start, start + PORTION)
            logits = weighted_rows(coarse.rows, corners[some], weights[some])
            products = torch.cat((logits, logits.new_ones((len(logits), 1))), dim=1) @ self._all_coarse
            *seen, own = torch.split(products, self._widths, dim=1)
            x = fine(some)
            assert x is not None
            parts.append(torch.addmm(own, evaluator.last_hidden(x, seen), classifier.own) if seen else x + own)
        return torch.cat(parts)
