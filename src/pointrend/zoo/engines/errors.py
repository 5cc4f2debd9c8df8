"""What is said of engines that cannot be used."""

from __future__ import annotations


class EngineError(ValueError):
    """An engine that is not installed, or cannot be used for this model."""


def not_installed(package: str, extra: str) -> EngineError:
    """The error for a missing package."""
    return EngineError(f"{package} is not installed: pip install 'pointrend[{extra}]'")
