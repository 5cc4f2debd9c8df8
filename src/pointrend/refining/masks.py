"""Masks as people have them, brought to the plane of their photograph.

Shapes: h w a mask's own size, H W that of the photograph.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pointrend.data.images import ImageError, pixel_limit
from pointrend.errors import PointRendError, shown
from pointrend.results import InstanceResult, SemanticResult

Kind = Literal["binary", "probabilities", "logits", "labels", "ids"]
KINDS: tuple[Kind, ...] = ("binary", "probabilities", "logits", "labels", "ids")
Fit = Literal["stretch", "pad"]
"""What a mask of another size covers: the photograph stretched to the mask's size, or padded at the right and bottom to
a square."""
MaskInput = Any
"""A path, a PIL image, an array or tensor (h, w), or a result of this package."""
ROUNDING = 0.01
"""Solvers and resizing give probabilities that are so much outside of [0, 1]."""
MAX_PLANES = 400


@dataclass(frozen=True)
class Given:
    """A mask as it was given: one plane for each value, or a single one."""

    kind: Kind
    values: tuple[int, ...]
    """The label of each plane; (1,) for a binary mask."""
    planes: tuple[Tensor, ...]
    """(h, w) float32 each: probabilities, or logits."""
    labels: np.ndarray | None = None
    """(h, w), the label map or ids, if it is one."""
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Return (h, w)."""
        return self.planes[0].shape[0], self.planes[0].shape[1]


def given_mask(mask: MaskInput, kind: Kind | None = None) -> Given:
    """Return a mask of any kind in one form.

    Args:
        mask: see `MaskInput`.
        kind: what its values mean; None guesses where only one meaning is possible.

    Raises:
        PointRendError: it cannot be read, its values do not fit the kind, or could mean several.
    """
    if kind is not None and kind not in KINDS:
        raise PointRendError(f"kind must be one of {', '.join(KINDS)}, got {shown(kind)}")
    if isinstance(mask, Given):
        return mask
    if isinstance(mask, SemanticResult):
        return of_labels(mask.labels, "labels", ())
    if isinstance(mask, InstanceResult):
        return _of_instances(mask)
    array, palette = _array(mask)
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2 or array.size == 0:
        hint = ", which is a photograph's" if array.ndim == 3 and array.shape[2] in (3, 4) else ""
        raise PointRendError(f"a mask has one value a pixel, (h, w), got {tuple(array.shape)}{hint}")
    guessed = kind or _guess(array, palette)
    if guessed in ("labels", "ids"):
        if array.dtype.kind not in "uib" or array.min() < 0:
            raise PointRendError(f"{guessed} must be integers from 0, got {array.dtype} from {array.min()}")
        return of_labels(array, guessed, ())
    return Given(guessed, (1,), (_plane(array, guessed),))


def _array(mask: MaskInput) -> tuple[np.ndarray, bool]:
    """Return a mask's values, and whether they stand for colours of a palette."""
    if isinstance(mask, (str, Path)):
        path = Path(mask)
        if path.suffix.lower() == ".npy":
            try:
                return np.load(path, allow_pickle=False), False
            except (OSError, ValueError) as error:
                raise PointRendError(f"{path}: cannot be read as an array ({str(error).splitlines()[0]})") from error
        try:
            with pixel_limit(), Image.open(path) as image:
                return _array(image)
        except PointRendError as error:
            raise PointRendError(f"{path}: {error}") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ImageError(f"{path}: cannot be read as a mask ({str(error).splitlines()[0]})") from error
    if isinstance(mask, Image.Image):
        if mask.mode in ("RGB", "RGBA", "LA"):
            values = np.asarray(mask)
            if mask.mode in ("RGBA", "LA") and values[..., -1].min() < 255:
                return values[..., -1], False  # a cut-out: its alpha is the mask
            if (values[..., 0] == values[..., 1]).all() if mask.mode != "RGB" else (values == values[..., :1]).all():
                return values[..., 0], False
            return values, False
        return np.asarray(mask), mask.mode == "P"
    if isinstance(mask, Tensor):
        plain = mask.detach().cpu()
        return (plain.float() if plain.dtype in (torch.float16, torch.bfloat16) else plain).numpy(), False
    if isinstance(mask, np.ndarray):
        return mask, False
    raise PointRendError(f"a mask must be a path, an image, an array (h, w) or a result, got {type(mask).__name__}")


def _guess(array: np.ndarray, palette: bool) -> Kind:
    """Return what the values of a mask (h, w) mean, if that is certain."""
    if array.dtype == bool:
        return "binary"
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise PointRendError("a mask must have finite values, got nan or infinity")
        if array.min() >= 0 and array.max() <= 1:
            return "probabilities"
        if array.min() < 0:
            return "logits"
        raise PointRendError(
            f"a mask of floats is of probabilities in [0, 1] or logits, got {array.min():g} to {array.max():g}: "
            "divide by the maximum, or say kind='logits'"
        )
    if array.dtype.kind not in "ui":
        raise PointRendError(f"a mask must be bool, integers or floats, got {array.dtype}")
    values = np.unique(array)
    if palette:
        return "labels"
    if len(values) <= 2 and set(values.tolist()) <= {0, 1} | {0, 255}:
        return "binary"
    raise PointRendError(
        f"the mask has {len(values)} different values, {values[0]} to {values[-1]}, which may be a soft mask, classes "
        "or objects: say kind='probabilities', 'labels' or 'ids'"
    )


def _plane(array: np.ndarray, kind: Kind) -> Tensor:
    """Return the plane (h, w) float32 of a mask that is binary, or of probabilities or logits."""
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise PointRendError("a mask must have finite values, got nan or infinity")
    if kind == "binary":
        values = (values > values.max() / 2).astype(np.float32) if values.max() > 0 else values
    elif kind == "probabilities":
        if array.dtype.kind in "ui":
            values = values / np.float32(np.iinfo(array.dtype).max)
        if values.min() < -ROUNDING or values.max() > 1 + ROUNDING:
            raise PointRendError(f"probabilities must be in [0, 1], got {values.min():g} to {values.max():g}")
        values = values.clip(0, 1)
    return torch.from_numpy(values)


def of_labels(labels: np.ndarray, kind: Kind, notes: tuple[str, ...]) -> Given:
    values = tuple(int(value) for value in np.unique(labels) if kind == "labels" or value != 0)
    if len(values) > MAX_PLANES:
        raise PointRendError(f"the mask has {len(values)} different values; at most {MAX_PLANES} can be refined")
    planes = tuple(torch.from_numpy((labels == value).astype(np.float32)) for value in values)
    empty = (torch.zeros(labels.shape),)
    return Given(kind, values or (1,), planes or empty, np.asarray(labels), notes)


def _of_instances(result: InstanceResult) -> Given:
    """Return the objects of a result as ids 1, 2, ...; where several overlap, the better one is on top."""
    ids = np.zeros(result.image.shape[:2], np.int32)
    for number in reversed(range(len(result))):
        ids[result[number].mask] = number + 1
    return of_labels(ids, "ids", ())


def fitted(plane: Tensor, size: tuple[int, int], fit: Fit | None, *, logits: bool = False) -> Tensor:
    """Return a plane (h, w) at the size (H, W) of its photograph, as probabilities.

    Args:
        plane: probabilities or logits.
        size: of the photograph.
        fit: what a mask of another size covers; None where it is certain, because the sides have equal ratios.
        logits: the plane is of logits, which are interpolated as such.

    Raises:
        PointRendError: what the mask covers is not certain, or `fit` is not one of the above.
    """
    own = (plane.shape[0], plane.shape[1])
    if fit not in (None, "stretch", "pad"):
        raise PointRendError(f"fit must be stretch or pad, got {shown(fit)}")
    target = size
    if own != size:
        how = fit or _certain_fit(own, size)
        if how == "pad":
            if own[0] != own[1]:
                raise PointRendError(f"fit='pad' is for square masks, got {own[0]} x {own[1]}")
            target = (max(size), max(size))
        plane = F.interpolate(
            plane[None, None], size=target, mode="bilinear", align_corners=False, antialias=own[0] > target[0]
        )[0, 0]
    plane = plane[: size[0], : size[1]]
    return plane.sigmoid() if logits else plane  # interpolation stays between what it reads


def _certain_fit(own: tuple[int, int], size: tuple[int, int]) -> Fit:
    # A side that was rounded differs by up to a pixel.
    if abs(own[0] * size[1] - own[1] * size[0]) < max(size):
        return "stretch"
    squares = "a square mask may cover the photograph stretched or padded: say fit='stretch' or 'pad'"
    other = "it is of another photograph, or was cropped; say fit='stretch' if it covers all of it"
    raise PointRendError(
        f"the mask is {own[0]} x {own[1]} and the photograph {size[0]} x {size[1]}: "
        f"{squares if own[0] == own[1] else other}"
    )


def fitted_labels(given: Given, size: tuple[int, int], fit: Fit | None) -> np.ndarray:
    """Return a label map at the size (H, W) of its photograph: the label with the greatest part of each pixel."""
    assert given.labels is not None
    if given.size == size:
        return given.labels
    best, labels = torch.full(size, 0.5 if given.kind == "ids" else -1.0), np.zeros(size, given.labels.dtype)
    for value, plane in zip(given.values, given.planes, strict=True):
        part = fitted(plane, size, fit)
        better = part > best
        labels[better.numpy()] = value
        best = torch.where(better, part, best)
    return labels
