"""Scaling of grey values of any type to 0..255.

Shapes: H W pixels, C channels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Scaling = Literal["full", "deep", "auto"] | tuple[float, float]
"""How values become 0..255: "full" from the range of their type (0..65535, or 0..1 for floats); "auto" from the image's
own range, its `PERCENTILES`; "deep" like auto, but 8-bit images are left as they are; or from (low, high)."""

PERCENTILES = (0.1, 99.9)
"""Of an image's values; black and white in "auto". They leave out dead and hot pixels."""
_SAMPLE = 4_000_000
"""The number of evenly spaced values from which percentiles are computed."""
_NEARLY_BLACK = 0.08
"""Ratio of the full range; an image whose values all lie below it is nearly black."""


class GreyRangeError(ValueError):
    """Grey values that cannot be scaled: outside of the range from black to white, or none of them finite."""


def to_bytes(
    values: np.ndarray, scaling: Scaling, *, white_is_zero: bool = False
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Scale values (H, W) or (H, W, C) to uint8; channels are scaled together, which keeps colours.

    Args:
        values: any integers or floats.
        scaling: how.
        white_is_zero: whether small values are light, as TIFF files may say.

    Returns:
        uint8 of the same shape, and notes: the range by which it was scaled, or that it is nearly black.

    Raises:
        GreyRangeError: with "full", values lie outside the range of their type; or none is finite.
    """
    if values.dtype == np.uint8 and scaling in ("full", "deep"):
        return (255 - values if white_is_zero else values), ()
    low, high, notes = limits(values, scaling)
    if values.dtype == np.uint16:  # noqa: SIM108  # a table is faster, and takes less memory
        scaled = _scaled(np.arange(65536), low, high)[values]
    else:
        scaled = _scaled(values, low, high)
    return (255 - scaled if white_is_zero else scaled), notes


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    ratio = (values.astype(np.float64) - low) / (high - low) if high > low else np.zeros(values.shape)
    scaled: np.ndarray = (np.nan_to_num(ratio, nan=0.0).clip(0, 1) * 255).round().astype(np.uint8)
    return scaled


def limits(values: np.ndarray, scaling: Scaling) -> tuple[float, float, tuple[str, ...]]:
    """Return the values of black and white, and the notes of `to_bytes`; raise as it does."""
    if scaling == "full":
        _check_range(values, _top(values))
        return 0.0, _top(values), _darkness(values, _top(values))
    if isinstance(scaling, tuple):
        return *scaling, (f"scaled from {scaling[0]:g} .. {scaling[1]:g}",)
    low, high = own_range(values)
    return low, high, (f"scaled from {low:.6g} .. {high:.6g}, its own range",)


def own_range(values: np.ndarray) -> tuple[float, float]:
    """Return the `PERCENTILES` of the finite values, or their extremes if those are equal."""
    sample = values.ravel()[:: max(1, values.size // _SAMPLE)]
    finite = sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample
    if not finite.size:
        raise GreyRangeError("no value is finite")
    low, high = np.percentile(finite, PERCENTILES)
    if low == high:
        low, high = finite.min(), finite.max()
    return float(low), float(high)


def _top(values: np.ndarray) -> float:
    """Return the value of white in the full range of a type."""
    if values.dtype.kind == "f":
        return 1.0
    return 255.0 if values.dtype == np.uint8 else 65535.0


def _check_range(values: np.ndarray, top: float) -> None:
    if values.size and not (values.min() >= 0 and values.max() <= top):  # also refuses NaN
        raise GreyRangeError(
            f"values of {values.dtype} must lie in 0..{top:g}, found {values.min():g} to {values.max():g}; scale them, "
            "or scale by the image's own range (--range auto, intensity='auto')"
        )


def _darkness(values: np.ndarray, top: float) -> tuple[str, ...]:
    largest = float(values.max()) if values.size else 0.0
    if not 0 < largest < _NEARLY_BLACK * top:
        return ()
    return (
        f"nearly black: its largest value is {largest:g} of {top:g}; --range auto (intensity='auto') scales it by its "
        "own range",
    )
