"""Windows to learn refinement from: an image, a mask to refine, and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pointrend.core.mask_input import mask_channels
from pointrend.data.classes import IGNORE
from pointrend.data.masks.corruptions import corrupted, nearly_true
from pointrend.data.masks.scenes import Scene, Source, spoiled
from pointrend.data.settings import InputSpec


@dataclass(frozen=True)
class MaskWindows(Dataset[tuple[Tensor, Tensor]]):
    """Draws windows from several sources; every item depends on its key alone."""

    sources: Sequence[Source]
    shares: Sequence[float]
    """How often each source is drawn, of their sum."""
    window: int
    context: int
    """Pixels around the window that a mask's corruption sees."""
    clean: float
    """The share of masks that are given true, or nearly so."""
    input: InputSpec
    length: int = 100_000

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the network's input (6, H, W) and labels (H, W) int64: 0, 1 or `IGNORE`."""
        random = np.random.default_rng(key)
        scene, given = self.scene(random)
        labels = np.where(scene.ignored, IGNORE, scene.mask > 0.5).astype(np.int64)
        image = torch.from_numpy(spoiled(scene.image, random).copy()).permute(2, 0, 1)[None]
        top, left = self._corner(scene.mask, given, random)
        inside = np.s_[top : top + self.window, left : left + self.window]
        mask = torch.from_numpy(np.ascontiguousarray(given[inside]))[None, None]
        window = image[:, :, inside[0], inside[1]]
        images = (window.float() - self._values(self.input.mean)) / self._values(self.input.std)
        return torch.cat((images, mask_channels(mask, mask)), dim=1)[0], torch.from_numpy(labels[inside])

    @staticmethod
    def _values(values: Sequence[float]) -> Tensor:
        return torch.tensor(values).view(1, 3, 1, 1)

    def scene(self, random: np.random.Generator) -> tuple[Scene, np.ndarray]:
        """Draw a scene with a mask that is not everywhere the same, and a mask to refine."""
        shares = np.asarray(self.shares) / np.sum(self.shares)
        while True:
            scene = self.sources[random.choice(len(shares), p=shares)].draw(self.window + self.context, random)
            if 0.002 < (scene.mask > 0.5).mean() < 0.998:
                break
        if scene.given is not None:
            return scene, scene.given
        make = nearly_true if random.random() < self.clean else corrupted
        return scene, make(scene.mask, random).astype(np.float32)

    def _corner(self, mask: np.ndarray, given: np.ndarray, random: np.random.Generator) -> tuple[int, int]:
        """Return the corner (row, column) of a window about a random pixel of the outline of the truth or the mask."""
        outline = mask if random.random() < 0.5 else given
        inside = outline > 0.5
        edge = np.zeros(inside.shape, bool)
        edge[1:] |= inside[1:] != inside[:-1]
        edge[:, 1:] |= inside[:, 1:] != inside[:, :-1]
        rows, columns = np.nonzero(edge)
        last = mask.shape[0] - self.window
        if len(rows) == 0:
            return last // 2, last // 2
        index, reach = random.integers(len(rows)), self.window // 3
        row, column = (
            rows[index] + random.integers(-reach, reach + 1),
            columns[index] + random.integers(-reach, reach + 1),
        )
        return tuple(int(min(max(0, at - self.window // 2), last)) for at in (row, column))  # type: ignore[return-value]
