"""The base of all errors of this package."""

from __future__ import annotations


class PointRendError(ValueError):
    """An error that a user can mend: one line says what was expected, what came, and what to do."""
