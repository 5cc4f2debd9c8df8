"""How uncertain a prediction is, from its logits: larger is less certain, and 0 is the maximum.

Uncertainty is not linear in the logits, so the order matters: sample or upsample the *logits*, then take the
uncertainty. Between logits of -1 and +1 lies an edge, which a map of uncertainties (-1, -1) no longer shows.
"""

from __future__ import annotations

import math

from torch import Tensor


def check_finite(logits: Tensor, what: str = "logits") -> Tensor:
    """Return logits of any shape unchanged, if all are finite.

    Raises:
        ValueError: one is NaN or infinite: the most uncertain of such logits, and their labels, mean nothing.
    """
    if logits.numel():
        for extreme in logits.detach().aminmax():
            check_number(float(extreme), what)
    return logits


def check_number(extreme: float, what: str = "logits") -> float:
    """Return the smallest or largest of some logits; raise as `check_finite` does."""
    if not math.isfinite(extreme):
        raise ValueError(f"{what} must be finite, got {extreme}: the weights are damaged, or the precision is too low")
    return extreme


def binary_uncertainty(logits: Tensor, *, dim: int) -> Tensor:
    """Return the negated distance of the only logit from zero (paper, section 4.1: closest to 0.5).

    Args:
        logits: (..., 1, ...), one logit along `dim`.
        dim: the class dimension, which the result lacks.
    """
    if logits.shape[dim] != 1:
        raise ValueError(f"binary uncertainty needs 1 logit along dim {dim}, got {logits.shape[dim]}")
    return -logits.squeeze(dim).abs()


def multiclass_uncertainty(logits: Tensor, *, dim: int) -> Tensor:
    """Return the negated margin between the best two logits (paper, section 4.2).

    The paper speaks of probabilities; the published code, and so the published weights, use logits.

    Args:
        logits: (..., C, ...), C >= 2 along `dim`.
        dim: the class dimension, which the result lacks.
    """
    if logits.shape[dim] < 2:
        raise ValueError(f"the margin needs at least 2 logits along dim {dim}, got {logits.shape[dim]}")
    best, index = logits.max(dim, keepdim=True)
    # Removing the best and taking the maximum again is several times faster on a CPU than topk(2).
    second = logits.scatter(dim, index, float("-inf")).amax(dim)
    return second - best.squeeze(dim)


def independent_uncertainty(logits: Tensor, *, dim: int) -> Tensor:
    """Return the negated distance from zero of the logit closest to it, for classes that do not exclude each other.

    Args:
        logits: (..., C, ...), a sigmoid's each along `dim`.
        dim: the class dimension, which the result lacks.
    """
    return -logits.abs().amin(dim)


def uncertainty(logits: Tensor, *, dim: int, independent: bool = False) -> Tensor:
    """Return `binary_uncertainty` for one logit, `multiclass_uncertainty` for more.

    With `independent` classes, which do not exclude each other, it is `independent_uncertainty`.
    """
    if independent:
        return independent_uncertainty(logits, dim=dim)
    measure = binary_uncertainty if logits.shape[dim] == 1 else multiclass_uncertainty
    return measure(logits, dim=dim)
