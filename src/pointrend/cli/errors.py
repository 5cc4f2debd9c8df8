"""What goes wrong is said in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

FAILED = 1
"""Something could not be done with an input."""
WRONG_USAGE = 2
"""Nothing could be done with the arguments."""
INTERRUPTED = 130

USER_ERRORS = (ValueError, ImportError, OSError, FloatingPointError, MemoryError)


@contextmanager
def one_line_errors(*, code: int = FAILED) -> Iterator[None]:
    """Ends the program with one line on stderr and this exit code where the block fails with a user's error.

    `main` wraps every command in it. Inside of a command, `one_line_errors(code=WRONG_USAGE)` goes around what
    only looks at the arguments. Other exceptions are bugs, and pass.
    """
    try:
        yield
    except KeyboardInterrupt:
        report("interrupted")
        raise SystemExit(INTERRUPTED) from None
    except USER_ERRORS as error:
        report(describe(error))
        raise SystemExit(code) from None


def describe(error: BaseException) -> str:
    """One line for an exception; only those that list many findings keep their lines."""
    if getattr(error, "many_lines", False):
        return str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return "not enough memory"
    return " ".join(str(error).split()) or type(error).__name__


def report(message: str) -> None:
    """Print a line to stderr, as all errors are."""
    print(f"pointrend: error: {message}", file=sys.stderr, flush=True)
