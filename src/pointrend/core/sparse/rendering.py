"""The rendering of one image: labels, and logits where they are asked for.

Shapes: C classes, H W the output, h w a window of it, M pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pointrend.core.sparse.grids import CHUNK, Grid


class Rendering:
    """The rendering of one image: its labels, and logits where they are asked for.

    Logits are those of the reference at the last size, up to rounding.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    @property
    def labels(self) -> Tensor:
        """(H, W): uint8 for up to 256 labels, int32 for more."""
        return self.grid.labels

    def logits(self, window: tuple[int, int, int, int] | None = None) -> Tensor:
        """Return logits (C, h, w) of a window.

        Args:
            window: left, top, right, bottom in pixels of the output; None takes all of it.

        Raises:
            ValueError: the window is empty or not inside.
        """
        pixels, size = self._pixels(window)
        parts = [self.logits_at(part) for part in pixels.split(CHUNK)]  # type: ignore[no-untyped-call]
        return torch.cat(parts).t().reshape(-1, *size)

    def margins(self, window: tuple[int, int, int, int] | None = None) -> Tensor:
        """Return the margins of the labels (h, w): best logit minus second, or the smallest |logit|."""
        pixels, size = self._pixels(window)
        parts = [self.grid.best_two(self.logits_at(part))[1] for part in pixels.split(CHUNK)]  # type: ignore[no-untyped-call]
        return torch.cat(parts).view(size)

    def probabilities(self, k: int, window: tuple[int, int, int, int] | None = None) -> tuple[Tensor, Tensor]:
        """Return the k likeliest classes, best first: probabilities (k, h, w) and labels (k, h, w).

        Args:
            k: from 1 to the number of classes, which is 2 for a single logit.
            window: as in `logits`.
        """
        pixels, size = self._pixels(window)
        values, indices = [], []
        for part in pixels.split(CHUNK):  # type: ignore[no-untyped-call]
            logits = self.logits_at(part)
            if logits.shape[1] == 1:
                logits = torch.cat((-logits, logits), dim=1) / 2
            best = logits.softmax(dim=1).topk(k, dim=1)
            values.append(best.values.t())
            indices.append(best.indices.t())
        return torch.cat(values, dim=1).view(k, *size), torch.cat(indices, dim=1).view(k, *size)

    def logits_at(self, pixels: Tensor) -> Tensor:
        """Return logits (M, C) of pixels (M,), named by their row-major indices, which may repeat."""
        rows = self.grid.rows
        assert rows is not None, "render with keep_logits to ask for logits"
        slots = rows.slots(pixels)
        return rows.data[slots]

    def trim(self) -> None:
        """Drop all cached logits to save memory; they are computed again when they are asked for."""
        self.grid.trim()

    def _pixels(self, window: tuple[int, int, int, int] | None) -> tuple[Tensor, tuple[int, int]]:
        height, width = self.grid.size
        left, top, right, bottom = window or (0, 0, width, height)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(f"window must be left, top, right, bottom inside of {width} x {height}, got {window}")
        device = self.grid.labels.device
        rows = torch.arange(top, bottom, device=device)[:, None] * width
        return (rows + torch.arange(left, right, device=device)).flatten(), (bottom - top, right - left)
