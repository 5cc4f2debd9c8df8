"""The base of all errors of this package, its warnings, and the text that they quote from files."""

from __future__ import annotations

import warnings


class PointRendError(ValueError):
    """An error that a user can mend: one line says what was expected, what came, and what to do."""


class PointRendWarning(UserWarning):
    """What was skipped, guessed or limited; commands print it as one line."""


def warn(message: str) -> None:
    """Issue a `PointRendWarning`."""
    warnings.warn(message, PointRendWarning, stacklevel=3)


def printable(text: str, *, length: int = 100) -> str:
    """Truncate untrusted text and escape control characters for a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:length])


def shown(value: object, *, length: int = 50) -> str:
    """Return an untrusted value of a JSON or YAML file as short text for a message."""
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"
    text = printable(repr(value), length=length + 1)
    return text if len(text) <= length else f"{text[:length]}..."
