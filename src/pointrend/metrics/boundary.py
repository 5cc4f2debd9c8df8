"""Boundary bands of label maps, and the pixel counts of Boundary IoU and boundary F.

Boundary IoU is defined by Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation",
CVPR 2021. Distances are Chebyshev distances in pixels, and the image border counts as boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

_BITS = 8  # classes dilated at once, one per bit of a uint8


def boundary_width(size: tuple[int, int], ratio: float = 0.005) -> int:
    """Compute the width in pixels, at least 1, of the boundary band of an image of `size` (H, W)."""
    return max(1, round(ratio * math.hypot(*size)))


def boundary_band(labels: Tensor, width: int) -> Tensor:
    """Find the pixels of every class within `width` of that class's boundary.

    This is, for all classes at once, the mask minus the mask eroded `width` times by a 3x3 square with zeros outside of
    the image: a pixel is in the band if the (2 * width + 1)² window around it contains another label or crosses the
    image border.

    Args:
        labels: integer label map (H, W).
        width: pixels, at least 1, which is the contour.

    Returns:
        bool (H, W).
    """
    if labels.dim() != 2:
        raise ValueError(f"labels must be (H, W), got {tuple(labels.shape)}")
    if width < 1:
        raise ValueError(f"boundary width must be at least 1 pixel, got {width}")
    height, columns = labels.shape
    band = torch.ones(labels.shape, dtype=torch.bool, device=labels.device)
    if min(height, columns) > 2 * width:
        highest = _over_windows(labels, 2 * width + 1, torch.maximum)
        lowest = _over_windows(labels, 2 * width + 1, torch.minimum)
        band[width : height - width, width : columns - width] = highest != lowest
    return band


def band_counts(prediction: Tensor, target: Tensor, *, num_classes: int, width: int) -> Tensor:
    """Count the pixels in the boundary bands of one image, for Boundary IoU.

    Args:
        prediction, target: label maps (H, W); the value `num_classes` in both marks an ignored pixel.
        num_classes: C.
        width: of the bands, in pixels.

    Returns:
        int64 (3, C): pixels in both bands of the class, in the prediction's band, in the target's band.
    """
    predicted, true = boundary_band(prediction, width), boundary_band(target, width)
    both = predicted & true & (prediction == target)
    pixels = (target[both], prediction[predicted], target[true])
    return torch.stack([_count(labels.long(), num_classes) for labels in pixels])


def contour_counts(prediction: Tensor, target: Tensor, *, num_classes: int, width: int) -> Tensor:
    """Count contour pixels of one image, and those near the other map's contour of the same class, for boundary F.

    Args:
        prediction, target, num_classes: as for `band_counts`.
        width: the maximum distance, in pixels, between matched contour pixels.

    Returns:
        int64 (4, C): contour pixels of the prediction, those matched, contour pixels of the target, those matched.
    """
    size = (prediction.shape[0], prediction.shape[1])
    predicted, true = _contour(prediction), _contour(target)
    predicted_count, true_count = _count(predicted[1], num_classes), _count(true[1], num_classes)
    predicted_near, true_near = torch.zeros_like(predicted_count), torch.zeros_like(true_count)
    shared = torch.nonzero((predicted_count > 0) & (true_count > 0)).flatten()
    for classes in torch.split(shared, _BITS):
        bits = torch.zeros(num_classes + 1, dtype=torch.uint8, device=prediction.device)
        bits[classes] = (2 ** torch.arange(len(classes), device=bits.device)).to(torch.uint8)
        predicted_near += _count(_labels_near(predicted, true, bits, size, width), num_classes)
        true_near += _count(_labels_near(true, predicted, bits, size, width), num_classes)
    return torch.stack([predicted_count, predicted_near, true_count, true_near])


def _contour(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the flat indices (K,) of the contour pixels of labels (H, W), and their labels (K,)."""
    index = torch.nonzero(boundary_band(labels, 1).flatten()).flatten()
    return index, labels.flatten()[index].long()


def _labels_near(
    contour: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], bits: Tensor, size: tuple[int, int], width: int
) -> Tensor:
    """Return the labels of the pixels of `contour` with a pixel of `other` of the same label within `width`.

    Only labels with a bit in `bits` (C + 1,) take part; they are dilated in one pass, each in a separate bit.
    """
    index, labels = contour
    plane = torch.zeros(size[0] * size[1], dtype=torch.uint8, device=bits.device)
    plane[other[0]] = bits[other[1]]
    padded = pad(plane.view(size), (width, width, width, width))
    dilated = _over_windows(padded, 2 * width + 1, torch.bitwise_or).flatten()
    return labels[(dilated[index] & bits[labels]) != 0]


def _over_windows(values: Tensor, size: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Combine every `size` x `size` window of values (H, W) -> (H - size + 1, W - size + 1).

    `combine` must be idempotent (maximum, minimum, or): then the reach doubles in every pass, so that the cost is
    logarithmic in `size`.
    """
    for dim in (0, 1):
        reach = 1
        while reach < size:
            step = min(reach, size - reach)
            length = values.shape[dim] - step
            values = combine(values.narrow(dim, 0, length), values.narrow(dim, step, length))
            reach += step
    return values


def _count(labels: Tensor, num_classes: int) -> Tensor:
    """Count the occurrences (C,) of each class in labels (K,); the label `num_classes` is dropped."""
    return torch.bincount(labels, minlength=num_classes + 1)[:num_classes]
