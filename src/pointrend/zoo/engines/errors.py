"""Errors of engines that cannot be used."""

from __future__ import annotations

from pointrend.errors import PointRendError


class EngineError(PointRendError):
    """An engine that is not installed, or cannot be used for this model."""


def not_installed(package: str, extra: str) -> EngineError:
    """Return the error for a missing package."""
    return EngineError(f"{package} is not installed: pip install 'pointrend[{extra}]'")
