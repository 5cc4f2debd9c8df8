"""Refinement of one binary mask: passes over windows along its outline, and the rule that keeps what was right.

Shapes: K windows, H W pixels of the photograph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core.mask_input import mask_channels
from pointrend.core.subdivision import subdivide
from pointrend.models.semantic_network import SemanticNetwork
from pointrend.predict.refining.windows import Grid, halfway, moved_ratio, near_outline
from pointrend.spec import RefinerTest

Advance = Callable[[int], None]
"""Called with the number of windows that were done."""


@dataclass(frozen=True)
class Refined:
    """A refined mask, still in the plane of its photograph."""

    soft: Tensor
    """(H, W) float32, the probability of the object."""
    kept: Tensor
    """(H, W) bool, where the stop rule kept the given mask."""
    windows: int
    """The number of windows that were predicted."""


@torch.inference_mode()
def refine_plane(
    network: SemanticNetwork,
    image: Tensor,
    given: Tensor,
    test: RefinerTest,
    normalize: Callable[[Tensor], Tensor],
    advance: Advance | None = None,
) -> Refined:
    """Refine a mask in the plane of its photograph.

    Large objects are first refined on a smaller photograph, for gross errors, and then at the photograph's own
    resolution, in passes whose mean is the result; every second one sees the mirror image. Where the first pass
    moves little of the outline, the given mask is kept, and where it moves some of it, the outline goes half of the
    way.

    Args:
        network: the refiner, in evaluation mode.
        image: (3, H, W) uint8.
        given: (H, W) float32, probabilities.
        test: the numbers.
        normalize: makes the network's input (K, 3, h, w) of pixels (K, 3, h, w) uint8.
        advance: of progress.
    """
    inside = given > 0.5
    count = 0
    if not bool(inside.any()) or bool(inside.all()):
        return Refined(given.clone(), torch.ones_like(inside), count)
    top, bottom, left, right = _box(inside, test.extent + test.margin)
    part = slice(top, bottom), slice(left, right)
    current, original, may = given[part], given[part], near_outline(inside[part], test.extent)
    pixels = image[:, part[0], part[1]]
    smaller = test.first / max(_extent(inside[part]))
    if smaller < 0.75:
        reduced, windows = _reduced(network, pixels, current, test, normalize, smaller, advance)
        current, count = torch.where(may, reduced, current), count + windows
    total = torch.zeros_like(current)
    for number in range(1, test.passes + 1):
        flip = _mirror if number % 2 == 0 else _same  # the network errs elsewhere in the mirror image
        maps = (flip(pixels), flip(current), flip(original))
        result, windows = one_pass(network, *maps, test, normalize, advance)
        current, count = torch.where(may, flip(result), original), count + windows
        if number == 1:
            changed = ((current > 0.5) != (original > 0.5)) & ((current - 0.5).abs() > test.sure)
        total += number * current
    # A mean of all passes, of which the later ones are better.
    current = torch.where(may, total * (2 / (test.passes * (test.passes + 1))), original)
    keep = torch.zeros_like(may)
    if test.keep > 0:
        moved = moved_ratio(original > 0.5, changed, test.neighbourhood)
        keep = moved <= test.keep
        half = may & ~keep & (moved <= test.keep * test.halfway)
        if bool(half.any()):
            current = torch.where(half, halfway(original > 0.5, current > 0.5), current)
        current = torch.where(keep, original, current)
    soft, kept = given.clone(), torch.ones_like(inside)  # not before the passes, which need the memory
    soft[part], kept[part] = current, keep | ~may
    return Refined(soft, kept, count)


def _mirror(maps: Tensor) -> Tensor:
    return maps.flip(-1)


def _same(maps: Tensor) -> Tensor:
    return maps


def _reduced(
    network: SemanticNetwork,
    pixels: Tensor,
    current: Tensor,
    test: RefinerTest,
    normalize: Callable[[Tensor], Tensor],
    factor: float,
    advance: Advance | None,
) -> tuple[Tensor, int]:
    """Refine a mask on a photograph reduced by a factor, and return it at the photograph's size."""
    size = (pixels.shape[1], pixels.shape[2])
    small = [max(8, round(side * factor)) for side in size]
    less = F.interpolate(pixels[None], size=small, mode="bilinear", antialias=True)[0]
    mask = F.interpolate(current[None, None], size=small, mode="bilinear", antialias=True)[0, 0]
    result, windows = one_pass(network, less, mask, mask, test, normalize, advance)
    return F.interpolate(result[None, None], size=size, mode="bilinear")[0, 0], windows


def one_pass(
    network: SemanticNetwork,
    pixels: Tensor,
    current: Tensor,
    given: Tensor,
    test: RefinerTest,
    normalize: Callable[[Tensor], Tensor],
    advance: Advance | None = None,
) -> tuple[Tensor, int]:
    """Predict all windows along the outline of the current mask, blend their logits, and leave the rest as it was.

    Args:
        network, test, normalize, advance: see `refine_plane`.
        pixels: (3, H, W) uint8.
        current, given: (H, W) float32, probabilities.

    Returns:
        The mask (H, W) float32, and the number of windows.
    """
    size = (pixels.shape[1], pixels.shape[2])
    grid = Grid(size, test.window, test.margin)
    uncertain = near_outline(current > 0.5, test.reach) | ((current > 0.02) & (current < 0.98))
    corners = grid.corners(uncertain)
    down, right = grid.padded[0] - size[0], grid.padded[1] - size[1]
    image = _mirrored(pixels[None], down, right)[0]
    planes = [_mirrored(plane[None, None], down, right)[0, 0] for plane in (current, given)]
    total = torch.zeros(grid.padded)
    weights = torch.zeros(grid.padded)
    ramp = grid.ramp()
    side = test.window
    for start in range(0, len(corners), test.batch):
        some = corners[start : start + test.batch]
        cut = [(slice(row, row + side), slice(column, column + side)) for row, column in some]
        images = normalize(torch.stack([image[:, rows, columns] for rows, columns in cut]))
        masks = [torch.stack([plane[rows, columns] for rows, columns in cut])[:, None] for plane in planes]
        inputs = torch.cat((images, mask_channels(*masks)), dim=1)
        logits = window_logits(network, inputs, test)
        for (rows, columns), predicted in zip(cut, logits, strict=True):
            total[rows, columns] += predicted * ramp
            weights[rows, columns] += ramp
        if advance is not None:
            advance(len(some))
    height, width = size
    weights, total = weights[:height, :width], total[:height, :width]
    covered = weights > 0
    refined = total.div_(weights.clamp_(min=1e-6)).sigmoid_()
    return torch.where(covered, refined, current), len(corners)


def window_logits(network: SemanticNetwork, inputs: Tensor, test: RefinerTest) -> Tensor:
    """Return logits (K, h, w) of windows whose input is (K, 6, h, w), rendered by adaptive subdivision."""
    device = next(network.parameters()).device
    output = network(inputs.to(device, memory_format=torch.channels_last))
    rendered = subdivide(network.start(output), network.point_predictor(output), test.subdivision)
    return rendered[:, 0].float().cpu()


def _mirrored(maps: Tensor, down: int, right: int) -> Tensor:
    """Pad maps (N, C, H, W) at the right and bottom by mirroring, as often as it takes."""
    kind = maps.dtype
    while down or right:
        step = min(down, maps.shape[2] - 1 or 1), min(right, maps.shape[3] - 1 or 1)
        mode = "reflect" if step[0] < maps.shape[2] and step[1] < maps.shape[3] else "replicate"
        maps = F.pad(maps.float(), (0, step[1], 0, step[0]), mode=mode).to(kind)
        down, right = down - step[0], right - step[1]
    return maps


def _box(wanted: Tensor, margin: int) -> tuple[int, int, int, int]:
    """Return the box (top, bottom, left, right) of the pixels of `wanted` (H, W) with a margin, within the image."""
    rows, columns = torch.nonzero(wanted.any(1)).flatten(), torch.nonzero(wanted.any(0)).flatten()
    height, width = wanted.shape
    return (
        max(0, int(rows[0]) - margin),
        min(height, int(rows[-1]) + 1 + margin),
        max(0, int(columns[0]) - margin),
        min(width, int(columns[-1]) + 1 + margin),
    )


def _extent(inside: Tensor) -> tuple[int, int]:
    top, bottom, left, right = _box(inside, 0)
    return bottom - top, right - left
