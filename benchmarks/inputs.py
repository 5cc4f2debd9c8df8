"""Coarse logits that look like a trained network's: piecewise smooth, with boundaries in few cells.

Random logits would put a class boundary into every cell, and a benchmark on them would say nothing about images.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MakeLogits = Callable[[int, int, int], Tensor]
"""(classes, h, w) -> logits (1, classes, h, w)."""
USED = 12
"""Classes that occur; more stay unlikely, as in a data set of many classes."""


def piecewise_smooth_logits(num_classes: int, height: int, width: int, *, seed: int = 0) -> Tensor:
    """Logits (1, C, h, w): regions around random centres, blurred a little, with smooth and with pixel noise."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(40, 2, generator=generator)
    owner = torch.randint(min(USED, num_classes), (40,), generator=generator)
    y = (torch.arange(4 * height) + 0.5) / (4 * height)
    x = (torch.arange(4 * width) + 0.5) / (4 * width)
    places = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=2).view(-1, 2)
    nearest = torch.cat([torch.cdist(part, centers).argmin(dim=1) for part in torch.split(places, 2**16)])
    labels = owner[nearest].view(1, 4 * height, 4 * width)
    ratio = torch.stack([F.avg_pool2d((labels == c).float(), 4) for c in range(min(USED, num_classes))], dim=1)
    ratio = F.avg_pool2d(F.pad(ratio, (2, 2, 2, 2), mode="replicate"), 5, 1)
    logits = torch.full((1, num_classes, height, width), -4.0)
    logits[:, : ratio.shape[1]] = 8.0 * ratio - 4.0
    smooth = torch.randn(1, num_classes, max(2, height // 4), max(2, width // 4), generator=generator)
    logits += 0.8 * F.interpolate(smooth, size=(height, width), mode="bilinear", align_corners=False)
    return logits + 0.15 * torch.randn(logits.shape, generator=generator)


def logits_from(path: Path) -> MakeLogits:
    """The function `realistic_logits` of a Python file.

    Raises:
        ValueError: there is no such file or function.
    """
    spec = importlib.util.spec_from_file_location("realistic_logits", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"--logits must be a Python file with a function realistic_logits, there is no {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "realistic_logits"):
        raise ValueError(f"{path}: has no function realistic_logits(num_classes, height, width)")
    return cast("MakeLogits", module.realistic_logits)


def photo(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8: smooth areas with some noise, which compress as photographs do."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 9, 17, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)[0]
    noisy = 255 * smooth + 4 * torch.randn(smooth.shape, generator=generator)
    pixels: np.ndarray = noisy.clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    return pixels


def boxes_of_photographs(path: Path | None, *, count: int = 100, shortest: int = 800, longest: int = 1333) -> Tensor:
    """(R, 4) boxes in an input of 800 x 1333, of the sizes that objects have in a COCO annotation file.

    Without a file, the logarithms of the sizes are drawn uniformly, between 12 and 400 pixels.
    """
    generator = torch.Generator().manual_seed(0)
    if path is None:
        size = torch.exp(torch.rand(count, 2, generator=generator) * 3.5 + 2.5)
    else:
        sizes = _object_sizes(path, shortest, longest)
        size = sizes[:: max(1, len(sizes) // count)][:count]  # of all photographs
    room = torch.tensor((longest, shortest))
    size = torch.minimum(size, room)
    corner = torch.rand(len(size), 2, generator=generator) * (room - size)
    return torch.cat((corner, corner + size), dim=1)


def _object_sizes(path: Path, shortest: int, longest: int) -> Tensor:
    from pointrend.data.coco_file import read_coco

    sizes = []
    for image in read_coco(path).images:
        scale = min(shortest / min(image.size), longest / max(image.size))
        boxes = [one.box for one in image.objects if one.box is not None]
        sizes += [(scale * (right - left), scale * (bottom - top)) for left, top, right, bottom in boxes]
    return torch.tensor(sizes).clamp(min=1)
