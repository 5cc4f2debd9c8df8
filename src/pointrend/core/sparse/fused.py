"""Several renderings of one image as one: windows whose logits are averaged, passes whose probabilities are.

Where all of them have the same best class, so has their mean, because that class is the best in every term of it. So
logits are computed where labels differ only, and a mean map of all classes never exists.

Shapes: C classes, H W the image, h w a window, M pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointrend.core.sparse.grids import CACHE_BYTES, CHUNK, Grid, Rows
from pointrend.core.sparse.rendering import Rendering

MEANS_BYTES = 2**25
"""Memory budget, in bytes, of the mean probabilities that are computed together. The caches of a pass grow with it."""

Window = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""


def mean_of_windows(parts: Sequence[Rendering], windows: Sequence[Window], size: tuple[int, int]) -> Rendering:
    """Return the rendering whose logits are the mean of those of all windows that a pixel lies in.

    Args:
        parts: of each window, at its size, with logits kept.
        windows: of the image; together they cover it.
        size: (H, W) of the image.

    Raises:
        ValueError: a part has another size than its window, or windows leave pixels out.
    """
    labels = parts[0].labels.new_zeros(size)
    seen, differ = (torch.zeros(size, dtype=torch.bool, device=labels.device) for _ in range(2))
    for part, (left, top, right, bottom) in zip(parts, windows, strict=True):
        if part.labels.shape != (bottom - top, right - left):
            raise ValueError(f"a window of {bottom - top} x {right - left} has labels {tuple(part.labels.shape)}")
        here = (slice(top, bottom), slice(left, right))
        differ[here] |= seen[here] & (labels[here] != part.labels)
        labels[here] = part.labels
        seen[here] = True
    if not bool(seen.all()):
        raise ValueError("windows must cover the image")
    data = _logits_of(parts[0])
    rows = Rows(
        size[0] * size[1],
        lambda pixels, out: _write_mean(parts, windows, size[1], pixels, out),
        classes=data.shape[1],
        like=data,
        limit=CACHE_BYTES // (4 * data.shape[1]),
    )
    grids = tuple(part.grid for part in parts)
    mean = Rendering(Grid(size, rows, labels, bound=None, sources=grids, independent=grids[0].independent))
    for pixels in _chunks(differ.flatten().nonzero()[:, 0], CHUNK):
        labels.view(-1)[pixels] = mean.grid.best_two(mean.logits_at(pixels))[0].to(labels.dtype)
    return mean


def _write_mean(parts: Sequence[Rendering], windows: Sequence[Window], width: int, pixels: Tensor, out: Tensor) -> None:
    """Write the mean logits of pixels (M,) of an image of this width into `out` (M, C)."""
    y, x = pixels.div(width, rounding_mode="floor"), pixels.remainder(width)
    count = torch.zeros_like(pixels)
    out.zero_()
    for part, (left, top, right, bottom) in zip(parts, windows, strict=True):
        inside = ((y >= top) & (y < bottom) & (x >= left) & (x < right)).nonzero()[:, 0]
        if len(inside):
            local = (y[inside] - top) * (right - left) + x[inside] - left
            out.index_add_(0, inside, part.logits_at(local))
            count[inside] += 1
    out.div_(count.unsqueeze(1))


@dataclass(frozen=True)
class RenderedPass:
    """One prediction of an image, at its size."""

    rendering: Rendering
    """With logits kept."""
    mirrored: bool = False
    """Whether it is of the image's mirror image."""

    @property
    def labels(self) -> Tensor:
        """(H, W), of the image itself."""
        return self.rendering.labels.flip(1) if self.mirrored else self.rendering.labels

    def probabilities_at(self, pixels: Tensor) -> Tensor:
        """Return probabilities (M, C) of pixels (M,) of the image; of a single logit, those of both classes."""
        if self.mirrored:
            width = self.rendering.labels.shape[1]
            pixels = pixels + (width - 1) - 2 * pixels.remainder(width)
        logits = self.rendering.logits_at(pixels)
        if logits.shape[1] == 1:
            logits = torch.cat((-logits, logits), dim=1) / 2
        return logits.softmax(dim=1)


def fused_labels(passes: Sequence[RenderedPass]) -> Tensor:
    """Return the labels (H, W) with the highest mean probability over all passes."""
    labels = passes[0].labels.clone()
    differ = torch.zeros(labels.shape, dtype=torch.bool, device=labels.device)
    for other in passes[1:]:
        differ |= other.labels != labels
    for pixels, means in _mean_probabilities(passes, differ.flatten().nonzero()[:, 0]):
        labels.view(-1)[pixels] = means.argmax(dim=1).to(labels.dtype)
    return labels


def fused_probabilities(passes: Sequence[RenderedPass], k: int) -> tuple[Tensor, Tensor]:
    """Return the k likeliest classes by the mean over all passes: probabilities (k, H, W) and labels (k, H, W)."""
    size = passes[0].labels.shape
    values, indices = [], []
    for _, means in _mean_probabilities(passes, torch.arange(size.numel(), device=passes[0].labels.device)):
        best = means.topk(k, dim=1)
        values.append(best.values.t())
        indices.append(best.indices.t())
    return torch.cat(values, dim=1).view(k, *size), torch.cat(indices, dim=1).view(k, *size)


def _mean_probabilities(passes: Sequence[RenderedPass], pixels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some of the pixels (M,) and their mean probabilities (M, C), until all are done."""
    classes = max(2, _logits_of(passes[0].rendering).shape[1])
    for some in _chunks(pixels, max(1, MEANS_BYTES // (4 * classes))):
        means = torch.zeros((len(some), classes), device=some.device)
        for one in passes:
            for part, sums in zip(_chunks(some, CHUNK), _chunks(means, CHUNK), strict=True):
                sums += one.probabilities_at(part)
            one.rendering.trim()  # one pass at a time has a cache
        yield some, means.div_(len(passes))


def _logits_of(rendering: Rendering) -> Tensor:
    assert rendering.grid.rows is not None, "render with keep_logits to average"
    return rendering.grid.rows.data


def _chunks(values: Tensor, count: int) -> Sequence[Tensor]:
    """Return views of at most `count` rows each; none of an empty tensor."""
    return values.split(count) if len(values) else ()  # type: ignore[no-untyped-call]
