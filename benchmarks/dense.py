"""What other implementations do, as the yardstick: all classes of all pixels, in plain PyTorch.

The same arithmetic as detectron2's and mmsegmentation's, in the layouts they use: dense upsampling, top-k over all
pixels, grid_sample on NCHW, 1x1 convolutions over points, scatter.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core import MASK_SUBDIVISION, Subdivision
from pointrend.models.mask_head import PointRendMaskHead
from pointrend.models.point_head import PointHead


def conv_head(head: PointHead, fine: Tensor, coarse: Tensor) -> Tensor:
    """The point head as 1x1 convolutions: fine (N, D, P), coarse (N, C, P) -> logits (N, C, P)."""
    x = torch.cat((fine, coarse), dim=1)
    for layer in head.layers:
        x = F.relu(F.conv1d(x, layer.weight.unsqueeze(2), layer.bias))  # type: ignore[operator, arg-type]
        x = torch.cat((x, coarse), dim=1)
    return F.conv1d(x, head.classifier.weight.unsqueeze(2), head.classifier.bias)


def dense_labels(coarse: Tensor, fine: Tensor, head: PointHead, subdivision: Subdivision) -> Tensor:
    """Labels (N, H, W) of coarse logits (N, C, h, w) and fine features (N, D, h, w), both NCHW."""
    logits = coarse
    for _ in range(subdivision.steps):
        logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        best = logits.topk(2, dim=1).values
        batch, classes, height, width = logits.shape
        count = min(subdivision.num_points, height * width)
        index = (best[:, 1] - best[:, 0]).view(batch, -1).topk(count, dim=1).indices
        grid = 2 * _points(index, height, width) - 1
        at = [F.grid_sample(m, grid.unsqueeze(2), align_corners=False).squeeze(3) for m in (fine, coarse)]
        predicted = conv_head(head, at[0], at[1])
        flat = logits.reshape(batch, classes, -1)
        logits = flat.scatter_(2, index.unsqueeze(1).expand(-1, classes, -1), predicted)
        logits = logits.view(batch, classes, height, width)
    return logits.argmax(dim=1)


def dense_masks(
    fine: Tensor,
    coarse: Tensor,
    boxes: Tensor,
    classes: Tensor,
    head: PointRendMaskHead,
    size: tuple[int, int],
    subdivision: Subdivision = MASK_SUBDIVISION,
) -> Tensor:
    """Masks (R, M, M) of the given classes, computed for all classes: fine (1, D, h, w), coarse (R, C, 7, 7)."""
    rows = torch.arange(len(boxes))
    side = subdivision.start
    cells = torch.arange(side * side).expand(len(boxes), -1)
    logits = _masks_at(fine, coarse, boxes, _points(cells, side, side), head, size).view(len(boxes), -1, side, side)
    for _ in range(subdivision.steps):
        logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        _, channels, height, width = logits.shape
        uncertain = -logits[rows, classes].abs().flatten(1)
        index = uncertain.topk(min(subdivision.num_points, height * width), dim=1).indices
        predicted = _masks_at(fine, coarse, boxes, _points(index, height, width), head, size)
        flat = logits.reshape(len(boxes), channels, -1)
        logits = flat.scatter_(2, index.unsqueeze(1).expand(-1, channels, -1), predicted)
        logits = logits.view(len(boxes), channels, height, width)
    return logits[rows, classes]


def _masks_at(
    fine: Tensor, coarse: Tensor, boxes: Tensor, points: Tensor, head: PointRendMaskHead, size: tuple[int, int]
) -> Tensor:
    """Logits (R, C, P) of all classes at points (R, P, 2) of boxes."""
    in_image = boxes[:, None, :2] + points * (boxes[:, None, 2:] - boxes[:, None, :2])
    in_image = in_image / in_image.new_tensor((size[1], size[0]))
    read = F.grid_sample(fine, 2 * in_image.flatten(0, 1)[None, None] - 1, align_corners=False)[0, :, 0]
    read = read.view(fine.shape[1], len(boxes), -1).transpose(0, 1)
    rough = F.grid_sample(coarse, 2 * points.unsqueeze(2) - 1, align_corners=False).squeeze(3)
    return conv_head(head.point_head, read, rough)


def _points(index: Tensor, height: int, width: int) -> Tensor:
    """The centres (..., 2) of cells, as (x, y) in [0, 1]."""
    return torch.stack(((index % width + 0.5) / width, (index // width + 0.5) / height), dim=-1).float()
