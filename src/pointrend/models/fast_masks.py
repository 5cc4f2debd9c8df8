"""Render instance masks for inference: the same numbers as `PointRendMaskHead.render`, with less work.

Shapes: R regions, P points of a region, C classes, D channels, h w a map, M the side of a grid.

Both inputs of the point head are interpolations, and interpolation commutes with a linear map: instead of reading C
coarse logits at each point and multiplying them, the 7 x 7 cells are multiplied, by all layers' matrices at once, and
the products are read. `point_evaluator.FirstLayer` does the same with the pixels of the input's maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core import (
    MASK_SUBDIVISION,
    Subdivision,
    box_to_image,
    check_finite,
    most_uncertain_points,
    regular_grid,
    uncertainty,
    write_points,
)
from pointrend.core.sparse.rows import bilinear_rows, read_rows, row_map, weighted_rows
from pointrend.models.mask_head import PointRendMaskHead
from pointrend.models.point_evaluator import PointEvaluator

PORTION = 1568
"""Points that pass the layers together: their hidden layers stay in the processor's cache."""
CHUNK_BYTES = 2**27
"""Memory budget, in bytes, of the regions that are rendered together, without the result."""


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
        maps = [row_map(f) for f in fine]
        self._p2 = maps[0]
        self.points = PointEvaluator(head.point_head, maps, padding=head.padding)

    @torch.no_grad()
    def render(
        self,
        boxes: Tensor,
        classes: Tensor,
        subdivision: Subdivision = MASK_SUBDIVISION,
        *,
        pixels: Tensor | None = None,
    ) -> list[Tensor]:
        """Return what `PointRendMaskHead.render` does, of the boxes (R, 4) and classes (R,) of this image.

        Args:
            boxes, classes, subdivision: see there.
            pixels: (R,), the longer side of each box in pixels of the image that masks are for. A box whose grid has
                more pixels than that a side is only interpolated from there on. None renders all alike.
        """
        sides = self.head.sides(subdivision)
        stages = [boxes.new_empty((len(boxes), 1, s, s)) for s in sides]
        a_cell = self.head.coarse_head.num_classes + sum(len(layer.bias) for layer in self.points.layers[:-1])
        chunk = max(1, CHUNK_BYTES // (4 * max(sides[0] ** 2 * a_cell, sides[-1] ** 2)))
        own = self.head.logit_of(classes)
        for first in range(0, len(boxes), chunk):
            part = slice(first, first + chunk)
            self._render(
                boxes[part],
                own[part],
                [stage[part] for stage in stages],
                num_points=subdivision.num_points,
                pixels=None if pixels is None else pixels[part],
            )
        return stages

    def _render(
        self, boxes: Tensor, own: Tensor, stages: Sequence[Tensor], *, num_points: int, pixels: Tensor | None
    ) -> None:
        """Fill the stages of some boxes."""
        regions = _Regions(boxes, own, self._coarse_logits(boxes), self)
        rows = torch.arange(len(boxes), device=boxes.device)
        stages[0].copy_(regions.coarse[rows, own].unsqueeze(1))
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
        """Return (R, C, 7, 7), as `PointRendMaskHead.coarse` does."""
        side = 2 * self.head.coarse_head.side
        grid = regular_grid((side, side), batch=len(boxes), device=boxes.device)
        points = box_to_image(grid, boxes, self.size).flatten(0, 1)
        read = read_rows(self._p2, points, padding=self.head.padding)
        features = read.view(len(boxes), side, side, -1).permute(0, 3, 1, 2)
        logits: Tensor = self.head.coarse_head(features)
        return check_finite(logits, "coarse mask logits").float()


class _Regions:
    """Some boxes, and all layers' products with their coarse logits."""

    def __init__(self, boxes: Tensor, own: Tensor, coarse: Tensor, masks: FastMasks) -> None:
        self.coarse = coarse
        self._boxes, self._masks = boxes, masks
        self._side = coarse.shape[-1]
        *hidden, last = masks.points.layers
        self._widths = [len(layer.bias) for layer in hidden]
        self._hidden_bias = torch.cat([layer.bias for layer in hidden])
        # Of the classifier, only the logit of each region's own class.
        self._weights, self._bias = last.own.t()[own].unsqueeze(2), last.bias[own]
        cells = coarse.flatten(2).transpose(1, 2)  # (R, 49, C)
        of_class = torch.bmm(cells, last.coarse.t()[own].unsqueeze(2))
        products = cells @ torch.cat([layer.coarse for layer in hidden], dim=1)
        self._cells = torch.cat((products, of_class), dim=2).flatten(0, 1)  # (R * 49, sum of widths + 1)

    def logits(self, points_box: Tensor, of: Tensor) -> Tensor:
        """Return logits (R', P) at points (R', P, 2) in the frames of the boxes `of` (R',)."""
        masks, cells = self._masks, (self._side, self._side)
        regions, points = points_box.shape[:2]
        indices, weights = bilinear_rows(cells, points_box.flatten(0, 1), padding=masks.head.padding)
        indices += (of * self._side**2).repeat_interleave(points).unsqueeze(1)
        fine = masks.points.fine_reader(box_to_image(points_box, self._boxes[of], masks.size).flatten(0, 1))
        parts = [points_box.new_zeros((0, points), dtype=torch.float32)]
        count = max(1, PORTION // points)
        for first in range(0, regions, count):
            few = of[first : first + count]
            some = slice(first * points, (first + count) * points)
            products = weighted_rows(self._cells, indices[some], weights[some])
            products[:, :-1] += self._hidden_bias  # after interpolation: outside of a map products fade, biases do not
            *seen, own = torch.split(products, [*self._widths, 1], dim=1)
            features = fine(some)
            assert features is not None
            x = masks.points.last_hidden(features, seen)
            logits = torch.bmm(x.view(len(few), points, -1), self._weights[few])[..., 0]
            parts.append(logits + own.view(len(few), points) + self._bias[few].unsqueeze(1))
        return check_finite(torch.cat(parts), "logits at points")
