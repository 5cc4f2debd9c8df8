"""Rendering of instance masks for inference: the same numbers as `PointRendMaskHead.render`, with less work.

Shapes: R regions, P points of a region, C classes, D channels, h w a map, M the side of a grid.

Both inputs of the point head are interpolations, and interpolation commutes with a linear map: instead of reading C
coarse logits at each point and multiplying them, the 7 x 7 cells are multiplied, by all layers' matrices at once, and
the products are read. The same is done with the pixels of the input's maps that points read (`fast_points.FirstLayer`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core import box_to_image, most_uncertain_points, regular_grid, uncertainty, write_points
from pointrend.core.rows import bilinear_rows, read_rows, row_map, weighted_rows
from pointrend.models.fast_points import fine_maps, split_layers
from pointrend.models.mask_head import PointRendMaskHead

PORTION = 1568
"""Points that pass the layers together: their hidden layers stay in the processor's cache."""
CHUNK_BYTES = 2**27
"""About what the regions may take that are rendered together, the result not counted."""


class FastMasks:
    """Masks of boxes in one image.

    Args:
        head: in evaluation mode, with at least one hidden layer; its weights are read now.
        fine: maps (1, D, h, w) of the input; the first is P2.
        size: (H, W) of the input, with its padding.
    """

    def __init__(self, head: PointRendMaskHead, fine: Sequence[Tensor], size: tuple[int, int]) -> None:
        assert len(head.point_head.layers) > 0
        self.head, self.size = head, size
        self.layers = split_layers(head.point_head)
        maps = [row_map(f) for f in fine]
        self._p2 = maps[0]
        self._fine = fine_maps(maps, self.layers[0].own)

    @torch.no_grad()
    def render(
        self,
        boxes: Tensor,
        classes: Tensor,
        *,
        start: int = 28,
        num_points: int = 784,
        steps: int = 3,
        pixels: Tensor | None = None,
    ) -> list[Tensor]:
        """What `PointRendMaskHead.render` gives, of the boxes (R, 4) and classes (R,) of this image.

        Args:
            boxes, classes, start, num_points, steps: see there.
            pixels: (R,), the longer side of each box in pixels of the picture that masks are for. A box whose grid has
                more cells than that a side is only interpolated from there on. None renders all alike.
        """
        side = self.head.coarse_head.side
        sides = [side, *(start * 2**step for step in range(steps + 1))]
        stages = [boxes.new_empty((len(boxes), 1, s, s)) for s in sides]
        a_cell = self.head.coarse_head.num_classes + sum(len(layer.bias) for layer in self.layers[:-1])
        chunk = max(1, CHUNK_BYTES // (4 * max(side * side * a_cell, sides[-1] ** 2)))
        known = self.head.known(classes)
        for first in range(0, len(boxes), chunk):
            part = slice(first, first + chunk)
            self._render(
                boxes[part],
                known[part],
                [stage[part] for stage in stages],
                num_points=num_points,
                pixels=None if pixels is None else pixels[part],
            )
        return stages

    def _render(
        self, boxes: Tensor, known: Tensor, stages: Sequence[Tensor], *, num_points: int, pixels: Tensor | None
    ) -> None:
        """Fill the stages of some boxes."""
        regions = _Regions(boxes, known, self._coarse_logits(boxes), self)
        rows = torch.arange(len(boxes), device=boxes.device)
        stages[0].copy_(regions.coarse[rows, known].unsqueeze(1))
        start = stages[1].shape[-1]
        grid = regular_grid((start, start), batch=len(boxes), device=boxes.device)
        stages[1].copy_(regions.logits(grid, rows).view_as(stages[1]))
        for before, after in pairwise(stages[1:]):
            logits = F.interpolate(before, scale_factor=2, mode="bilinear", align_corners=False)
            some = rows if pixels is None else (pixels > before.shape[-1]).nonzero()[:, 0]
            if len(some):
                indices, points = most_uncertain_points(uncertainty(logits[some], dim=1), num_points)
                logits[some] = write_points(logits[some], indices, regions.logits(points, some).unsqueeze(2))
            after.copy_(logits)

    def _coarse_logits(self, boxes: Tensor) -> Tensor:
        """(R, C, 7, 7), as `PointRendMaskHead.coarse`."""
        side = 2 * self.head.coarse_head.side
        grid = regular_grid((side, side), batch=len(boxes), device=boxes.device)
        points = box_to_image(grid, boxes, self.size).flatten(0, 1)
        read = read_rows(self._p2, points, padding=self.head.padding)
        features = read.view(len(boxes), side, side, -1).permute(0, 3, 1, 2)
        logits: Tensor = self.head.coarse_head(features)
        return logits.float()

    def fine_reader(self, points: Tensor) -> Callable[[slice], Tensor]:
        """What the first layer makes of the fine features at some of the points (M, 2) of the input: (., width)."""
        layers, others, weight = self._fine
        sizes = {maps.size for maps in others} | {layer.size for layer in layers}
        places = {size: bilinear_rows(size, points, padding=self.head.padding) for size in sizes}
        slots = [layer.slots(places[layer.size][0]) for layer in layers]
        bias = self.layers[0].bias

        def read(some: slice) -> Tensor:
            few = [weighted_rows(m.rows, places[m.size][0][some], places[m.size][1][some]) for m in others]
            total = torch.addmm(bias, torch.cat(few, dim=1), weight) if few else bias
            for layer, rows in zip(layers, slots, strict=True):
                total = total + weighted_rows(layer.products, rows[some], places[layer.size][1][some])
            return total

        return read


class _Regions:
    """Some boxes, and what all layers make of their coarse logits."""

    def __init__(self, boxes: Tensor, known: Tensor, coarse: Tensor, masks: FastMasks) -> None:
        self.coarse = coarse
        self._boxes, self._masks = boxes, masks
        self._side = coarse.shape[-1]
        *hidden, last = masks.layers
        # Of the classifier, the only logit that is asked for.
        self._weights, self._bias = last.own.t()[known].unsqueeze(2), last.bias[known]
        cells = coarse.flatten(2).transpose(1, 2)  # (R, 49, C)
        own = torch.bmm(cells, last.coarse.t()[known].unsqueeze(2))
        products = cells @ torch.cat([layer.coarse for layer in hidden], dim=1)
        self._cells = torch.cat((products, own), dim=2).flatten(0, 1)  # (R * 49, sum of widths + 1)

    def logits(self, points_box: Tensor, of: Tensor) -> Tensor:
        """Logits (R', P) at points (R', P, 2) in the frames of the boxes `of` (R',)."""
        masks, cells = self._masks, (self._side, self._side)
        regions, points = points_box.shape[:2]
        indices, weights = bilinear_rows(cells, points_box.flatten(0, 1), padding=masks.head.padding)
        indices += (of * self._side**2).repeat_interleave(points).unsqueeze(1)
        fine = masks.fine_reader(box_to_image(points_box, self._boxes[of], masks.size).flatten(0, 1))
        widths = [len(layer.bias) for layer in masks.layers[:-1]]
        parts = [points_box.new_zeros((0, points), dtype=torch.float32)]
        count = max(1, PORTION // points)
        for first in range(0, regions, count):
            few = of[first : first + count]
            some = slice(first * points, (first + count) * points)
            *seen, own = torch.split(weighted_rows(self._cells, indices[some], weights[some]), [*widths, 1], dim=1)
            x = fine(some).add_(seen[0]).relu_()
            for layer, added in zip(masks.layers[1:-1], seen[1:], strict=True):
                x = torch.addmm(added, x, layer.own).add_(layer.bias).relu_()
            logits = torch.bmm(x.view(len(few), points, -1), self._weights[few])[..., 0]
            parts.append(logits + own.view(len(few), points) + self._bias[few].unsqueeze(1))
        return torch.cat(parts)
