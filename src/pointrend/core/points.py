"""Points, and how maps are read at them: the only module that knows the conventions of `grid_sample`.

Shapes: N images, R regions, C channels, P points, H W grid.

A point is `(x, y)` in `[0, 1]²`, float32 or float64. Pixel `i` of `W` covers `[i / W, (i + 1) / W)` and has its centre
at `(i + 0.5) / W`, whatever the stride of the map, so one point names the same location on every map of an image.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["zeros", "border"]


def sample_points(
    features: Tensor,
    points: Tensor,
    *,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    padding: Padding = "zeros",
) -> Tensor:
    """Read a map at points by interpolation (paper, section 3.3).

    Args:
        features: (N, C, H, W), any floating type.
        points: (N, P, 2), float32 or float64: half precision cannot tell 2048 columns apart.
        mode: "bilinear" between the four nearest pixel centres, or "nearest".
        padding: what lies outside the map. "zeros" is what the published weights were trained with: values fade out
            in the half pixel next to the border. "border" repeats the outermost pixels, as upsampling does.

    Returns:
        (N, P, C), float32 (float64 for float64 features), also under autocast.

    Raises:
        ValueError: the shapes or the type of the points are not as above.
    """
    _check_points(points, features.shape[0])
    if features.ndim != 4:
        raise ValueError(f"features must be (N, C, H, W), got {tuple(features.shape)}")
    dtype = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast(features.device.type, enabled=False):
        grid = (2.0 * points - 1.0).to(dtype).unsqueeze(2)
        sampled = F.grid_sample(features.to(dtype), grid, mode=mode, padding_mode=padding, align_corners=False)
    return sampled.squeeze(3).transpose(1, 2)


def sample_labels(labels: Tensor, points: Tensor) -> Tensor:
    """Read the label of the pixel that each point lies in; labels are never interpolated.

    Args:
        labels: (N, H, W), any integer type.
        points: (N, P, 2), float32 or float64. Points on or beyond the border read the outermost pixel.

    Returns:
        (N, P), the type of `labels`.
    """
    _check_points(points, labels.shape[0])
    if labels.ndim != 3:
        raise ValueError(f"labels must be (N, H, W), got {tuple(labels.shape)}")
    height, width = labels.shape[1:]
    columns = (points[..., 0] * width).floor().long().clamp(0, width - 1)
    rows = (points[..., 1] * height).floor().long().clamp(0, height - 1)
    return labels.flatten(1).gather(1, rows * width + columns)


def sample_masks(ids: Tensor, instance_ids: Tensor, points: Tensor) -> Tensor:
    """Read masks at points by bilinear interpolation, from maps of ids: targets of points, between 0 and 1.

    The result is that of `sample_points` on the masks `ids == instance_ids`, without allocating these: a mask for each
    of many regions takes more memory than the network.

    Args:
        ids: (R, H, W), any integer type: a map for each region. An expanded one takes no memory.
        instance_ids: (R,), the id in its map that is each region's mask.
        points: (R, P, 2), float32 or float64; outside of the map masks are 0.

    Returns:
        (R, P), the type of `points`.
    """
    _check_points(points, ids.shape[0])
    if ids.ndim != 3 or instance_ids.shape != ids.shape[:1]:
        raise ValueError(
            f"ids must be (R, H, W) and instance_ids (R,), got {tuple(ids.shape)} and {tuple(instance_ids.shape)}"
        )
    height, width = ids.shape[1:]
    position = points * points.new_tensor((width, height)) - 0.5
    corner = position.floor()
    fraction = position - corner
    region = torch.arange(len(ids), device=ids.device)[:, None]
    total = torch.zeros_like(points[..., 0])
    for right in (0, 1):
        for below in (0, 1):
            column, row = corner[..., 0] + right, corner[..., 1] + below
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            # Early in training boxes, and so points, may lie beyond what integers can hold.
            column, row = (torch.where(inside, value, 0).long() for value in (column, row))
            found = inside & (ids[region, row, column] == instance_ids[:, None])
            across = fraction[..., 0] if right else 1 - fraction[..., 0]
            weight = across * (fraction[..., 1] if below else 1 - fraction[..., 1])
            total = total + torch.where(found, weight, 0)
    return total


def pixel_centers(indices: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the points at the centres of pixels.

    Args:
        indices: (...), integer, row-major: `row * W + column`.
        size: (H, W) of the grid that the indices count.

    Returns:
        (..., 2), float32.
    """
    height, width = size
    x = (indices % width + 0.5) / width
    y = (indices.div(width, rounding_mode="floor") + 0.5) / height
    return torch.stack((x, y), dim=-1).float()


def regular_grid(size: tuple[int, int], *, batch: int = 1, device: torch.device | str = "cpu") -> Tensor:
    """Return the centres of all pixels of a grid, row by row: (batch, H * W, 2), float32."""
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be (H, W) of at least one pixel, got {size}")
    points = pixel_centers(torch.arange(height * width, device=device), size)
    return points.expand(batch, -1, -1)


def box_to_image(points_box: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Convert points in the frames of boxes to points of the image.

    Args:
        points_box: (R, P, 2), (0, 0) is a box's upper left corner and (1, 1) its lower right one.
        boxes: (R, 4), xyxy in pixels of the image.
        size: (H, W) of the image: with padding, if the maps that will be read have it.

    Returns:
        (R, P, 2), float32 or float64; outside of [0, 1]² where a box is outside of the image.
    """
    corner, extent = _box_frame(points_box, boxes)
    return (corner + points_box * extent) / points_box.new_tensor((size[1], size[0]))


def image_to_box(points_image: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Convert points of the image to points in the frames of boxes; not finite for boxes without an area."""
    corner, extent = _box_frame(points_image, boxes)
    return (points_image * points_image.new_tensor((size[1], size[0])) - corner) / extent


def _box_frame(points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be (R, 4), got {tuple(boxes.shape)}")
    _check_points(points, boxes.shape[0])
    boxes = boxes.to(points.dtype)
    return boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]


def _check_points(points: Tensor, batch: int) -> None:
    if points.ndim != 3 or points.shape[2] != 2:
        raise ValueError(f"points must be (N, P, 2), got {tuple(points.shape)}")
    if points.shape[0] != batch:
        raise ValueError(f"points are for {points.shape[0]} images, the map has {batch}")
    if points.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"points must be float32 or float64, got {points.dtype}: half precision moves them")
