"""The base of all errors and warnings of this package, and how untrusted values stand in them."""

from __future__ import annotations

import reprlib
import unicodedata
import warnings

_REORDERING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


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


def shown(value: object, *, length: int = 100) -> str:
    """Return a value as it stands in a message: like `repr`, but short however large or nested the value is."""
    text = _SHORT.repr(value)
    return printable(text if len(text) <= length else f"{text[:length]}...", length=length + 3)


def plain_text(text: str, *, what: str = "a name", length: int = 200) -> str:
    """Return a name or a line of text as it is.

    Raises:
        PointRendError: it is longer than `length`, or has characters that a terminal obeys or that reorder a line.
    """
    if len(text) > length:
        raise PointRendError(f"{what} must have at most {length} characters, got {len(text)}: {shown(text, length=40)}")
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _REORDERING for c in text):
        raise PointRendError(f"{what} must have no control characters, got {shown(text)}")
    return text


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
