"""The base of all errors and notices of this package, and how untrusted values stand in them."""

from __future__ import annotations

import reprlib


class PointRendError(ValueError):
    """An error that a user can mend: one line says what was expected, what came, and what to do."""


class PointRendWarning(UserWarning):
    """A notice: something was decided that a user may want to know of. One line."""


def printable(text: str, *, length: int = 100) -> str:
    """Truncate untrusted text and escape control characters for a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:length])


def shown(value: object, *, length: int = 100) -> str:
    """Return a value as it stands in a message: like `repr`, but short however large or nested the value is."""
    text = _SHORT.repr(value)
    return printable(text if len(text) <= length else f"{text[:length]}...", length=length + 3)


class _Short(reprlib.Repr):
    """Shows the first parts of the first levels."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = self.maxlong = 120

    def repr_int(self, x: int, level: int) -> str:
        """Show an integer; Python refuses to write those of more than 4300 digits."""
        return repr(x) if x.bit_length() < 400 else f"a number of about {int(x.bit_length() * 0.30103) + 1} digits"


_SHORT = _Short()
